"""Exports and compiled blocks agree with eager mode, which works as before after an export."""

import pytest
import torch

from mmca.layers import Block, StageSpec, build_attention, registered_attentions
from tests.helpers import needs_new_torch

SPEC = StageSpec(embed_dims=8, num_heads=2, grid_size=6, sr_ratio=2, window_size=3, block=1)
COMPILES_SLOWLY = (
    'circulant',
    'keyed_circulant',
    'linear',
    'stripes',
    'window',
    'windowed_circulant',
)
every_attention = pytest.mark.parametrize('name', registered_attentions())


def skip_on_torch_2_6(name):
    if name == 'circulant' and torch.__version__.startswith('2.6.'):
        pytest.skip('torch 2.6 knows no shapes of FFTs of symbolic size')


def build(name):
    attn = build_attention(name, SPEC)
    return Block(8, attn, cpe=attn.uses_cpe).eval()


class OnMaps(torch.nn.Module):
    """A block on maps, whose H and W an export can leave open."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, maps):
        return self.block(maps.flatten(2).mT, tuple(maps.shape[2:]))


@needs_new_torch
@every_attention
@pytest.mark.parametrize(
    ('dynamic', 'sizes'),
    [
        ((), [(2, 10, 7)]),
        ((0,), [(1, 10, 7), (5, 10, 7)]),
        # Windows: three or more each way, when exported and afterwards.
        ((0, 2, 3), [(2, 10, 7), (3, 9, 9), (1, 7, 12), (5, 13, 8)]),
    ],
    ids=['static', 'batch', 'batch and grid'],
)
def test_eager_mode_after_an_export_and_the_export_is_right(name, dynamic, sizes):
    if dynamic:
        skip_on_torch_2_6(name)
    model, maps = OnMaps(build(name)), torch.randn(2, 8, 10, 7)
    shapes = (dict.fromkeys(dynamic, torch.export.Dim.AUTO),)
    program = torch.export.export(model, (maps,), dynamic_shapes=shapes, strict=False).module()
    for batch, *hw_shape in sizes:
        maps = torch.randn(batch, 8, *hw_shape)
        expected = model(maps)
        assert type(expected) is torch.Tensor
        torch.testing.assert_close(program(maps), expected, rtol=1e-4, atol=1e-5)


@needs_new_torch
@pytest.mark.slow
@every_attention
def test_onnx_with_a_dynamic_batch_and_grid(name):
    """Of all sizes: a grid in one window has another layout than those of several."""
    onnxruntime = pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    model, auto = OnMaps(build(name)), torch.export.Dim.AUTO
    shapes = ({0: auto, 2: auto, 3: auto},)
    example = (torch.randn(2, 8, 10, 7),)
    program = torch.onnx.export(model, example, dynamo=True, dynamic_shapes=shapes, verbose=False)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    for batch, *hw_shape in ((2, 10, 7), (3, 9, 9), (1, 7, 12), (2, 5, 4), (1, 3, 3), (2, 2, 3)):
        maps = torch.randn(batch, 8, *hw_shape)
        (found,) = session.run(None, {session.get_inputs()[0].name: maps.numpy()})
        with torch.no_grad():
            expected = model(maps)
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-5)


@needs_new_torch
@pytest.mark.slow
def test_compiled_by_inductor():
    """Forward and backward, by the C++ compiler."""
    torch._dynamo.reset()
    block = build('circulant')
    compiled = torch.compile(block, fullgraph=True)
    x = torch.randn(2, 35, 8, requires_grad=True)
    found, expected = (
        torch.autograd.grad(f(x, (5, 7)).cos().sum(), x)[0] for f in (compiled, block)
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert type(block(x, (5, 7))) is torch.Tensor


@needs_new_torch
@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=pytest.mark.slow if name in COMPILES_SLOWLY else ())
        for name in registered_attentions()
    ],
)
def test_compile_with_dynamic_shapes(name):
    skip_on_torch_2_6(name)
    torch._dynamo.reset()
    block = build(name)
    compiled = torch.compile(block, fullgraph=True, backend='aot_eager', dynamic=True)
    for batch, hw_shape in ((2, (5, 7)), (3, (6, 9)), (1, (4, 4))):
        x = torch.randn(batch, hw_shape[0] * hw_shape[1], 8)
        torch.testing.assert_close(compiled(x, hw_shape), block(x, hw_shape))
