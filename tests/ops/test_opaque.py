"""Functions that torch.compile calls and does not trace: results, schemas and shapes."""

import pytest
import torch
from torch.fx import GraphModule

from mmca.layers import CirculantAttention
from mmca.ops import circulant_attention, circulant_self_attention
from mmca.ops.compat import HAS_NODES
from tests.helpers import needs_new_torch, slow
from tests.tolerances import ATTENTION_TOLERANCE as TOLERANCE

calls = pytest.mark.skipif(
    not HAS_NODES, reason='torch 2.6 does not distinguish compiling from exporting'
)


def maps(*shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, dtype=torch.float64, generator=generator).to(dtype)


def arguments(name, projected, hw_shape, head_dim, dtype):
    """Of an op; the maps are a part of the channels of larger ones."""
    x, grad = maps(2, 48, *hw_shape, dtype=dtype).split([24, 24], 1)
    x, weight = (x[:, :8], maps(24, 8, dtype=dtype)) if projected else (x, None)
    given = x.contiguous(), weight, 8 // head_dim, head_dim
    if name == 'attend':
        return given
    _, lse, *kept = torch.ops.mmca.attend(*given)
    x_hat, kernel = (t.clone() for t in kept)  # opcheck cannot fake a complex view of real numbers
    return grad[:, :8].contiguous(), lse, x_hat, weight, kernel, head_dim


@calls
@pytest.mark.parametrize('dtype', [torch.float32, *slow(torch.float64)], ids=str)
@pytest.mark.parametrize(('hw_shape', 'head_dim'), [((1, 1), 1), ((5, 7), 4), ((17, 18), 1)])
@pytest.mark.parametrize('projected', [True, False])
@pytest.mark.parametrize('name', ['attend', 'attend_backward'])
def test_schemas_and_shapes_are_right(name, projected, hw_shape, head_dim, dtype):
    op = getattr(torch.ops.mmca, name).default
    given = arguments(name, projected, hw_shape, head_dim, dtype)
    torch.library.opcheck(op, given)
    assert all(x.is_contiguous() for x in op(*given))


def attend(q, k, v, hw_shape):
    return circulant_attention(q, k, v, hw_shape, head_dim=2)


def attend_keys(q, k, v, hw_shape):
    b = q.unflatten(2, (4, 2)).sum(3).mT
    out, lse = circulant_attention(q, k, v, hw_shape, 2, key_logits=b, return_lse=True)
    return torch.cat([out, lse.mT.to(out.dtype)], 2)


def attend_itself(x, weight, hw_shape):
    return circulant_self_attention(x, weight, hw_shape, head_dim=2)


def tokens(dtype, *hw_shape):
    """(2, N, C) tokens, both memory layouts, and a weight."""
    x = maps(2, hw_shape[0] * hw_shape[1], 8, dtype=dtype)
    return x, x.sin().mT.contiguous().mT, x.cos(), maps(24, 8, dtype=dtype)


# A new parity of W is compiled again, and so is another memory layout.
@calls
@pytest.mark.parametrize(
    ('function', 'chosen', 'dtype', 'cast', 'sizes'),
    [
        (attend, (0, 1, 2), torch.float32, True, [(5, 7), (16, 17), (4, 6)]),
        (attend_keys, (0, 1, 2), torch.bfloat16, False, [(5, 7), (16, 17), (4, 6)]),
        *slow((attend_itself, (0, 3), torch.float64, True, [(5, 7), (16, 17), (4, 6)])),
        *slow((attend_itself, (1, 3), torch.float32, True, [(4, 6), (9, 2)])),
        (attend_itself, (1, 3), torch.bfloat16, False, [(5, 7)]),
    ],
)
def test_compiled_for_any_size_it_agrees_with_eager_mode(function, chosen, dtype, cast, sizes):
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend='aot_eager', dynamic=True)
    for hw_shape in sizes:
        inputs, results = [tokens(dtype, *hw_shape)[i].requires_grad_() for i in chosen], []
        for run in (function, compiled):
            with torch.autocast('cpu', torch.bfloat16, enabled=cast):
                out = run(*inputs, hw_shape)
                grads = torch.autograd.grad(out.float().square().sum(), inputs)
            results.append([out, *grads])
        for found, expected in zip(*results, strict=True):
            assert found.dtype == expected.dtype
            error = (found - expected).abs().max() / expected.abs().max()
            assert error <= TOLERANCE[dtype]


@calls
@pytest.mark.parametrize('frozen', [0, 1])
def test_compiled_with_one_input_frozen(frozen):
    torch._dynamo.reset()
    x, _, _, weight = tokens(torch.float64, 5, 7)
    inputs = [x, weight]
    inputs[1 - frozen].requires_grad_()
    compiled = torch.compile(attend_itself, fullgraph=True, backend='aot_eager')
    found, expected = (
        torch.autograd.grad(run(*inputs, (5, 7)).square().sum(), inputs[1 - frozen])[0]
        for run in (compiled, attend_itself)
    )
    torch.testing.assert_close(found, expected)


@calls
def test_the_graph_of_a_layer_calls_it_and_transforms_nothing():
    torch._dynamo.reset()
    seen = []

    def backend(graph, example_inputs):
        seen.extend(str(node.target) for node in graph.graph.nodes if node.op == 'call_function')
        return graph.forward

    layer = CirculantAttention(8).eval()
    with torch.no_grad():
        torch.compile(layer, fullgraph=True, backend=backend)(maps(2, 35, 8), (5, 7))
    assert any('mmca.attend' in target for target in seen), seen
    assert not [target for target in seen if 'fft' in target]


@needs_new_torch
@pytest.mark.parametrize('strict', [False, True])
def test_an_export_needs_no_mmca(strict):
    layer = CirculantAttention(8).eval()
    program = torch.export.export(layer, (maps(2, 35, 8), (5, 7)), strict=strict)
    graphs = [m.graph for m in program.graph_module.modules() if isinstance(m, GraphModule)]
    targets = [str(node.target) for graph in graphs for node in graph.nodes]
    assert any('fft' in target for target in targets)
    assert not [target for target in targets if 'mmca' in target]
