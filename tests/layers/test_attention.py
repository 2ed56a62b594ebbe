"""The contract of attentions: every registered one, the registry, and one of a user's own."""

import math

import pytest
import torch
from torch import nn

from mmca.errors import InputError
from mmca.layers import (
    Attention,
    Block,
    StageSpec,
    build_attention,
    register_attention,
    registered_attentions,
)
from mmca.layers.attention import attention_letters, resolve_attn, unregister_attention
from mmca.ops import chunks
from tests.helpers import half_dtypes, needs_new_torch

SPEC = StageSpec(embed_dims=8, num_heads=2, grid_size=6, sr_ratio=2, window_size=3, block=1)
every_attention = pytest.mark.parametrize('name', registered_attentions())
sizes = pytest.mark.parametrize('hw_shape', [(1, 1), (1, 7), (5, 7), (6, 6), (9, 4)], ids=str)


def random_block(name, spec=SPEC, **options):
    """A block in float64 whose parameters are all away from their neutral initial values."""
    torch.manual_seed(0)
    attn = build_attention(name, spec, options)
    block = Block(spec.embed_dims, attn, mlp_ratio=2, cpe=attn.uses_cpe).double()
    for parameter in block.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return block


def tokens(hw_shape, batch=2):
    generator = torch.Generator().manual_seed(1)
    shape = (batch, math.prod(hw_shape), SPEC.embed_dims)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.fixture(autouse=True)
def chunks_in_small_blocks(monkeypatch):
    monkeypatch.setattr(chunks, 'CHUNK', 16)


@pytest.fixture(autouse=True)
def registry_as_it_was():
    known = registered_attentions()
    yield
    for name in registered_attentions().keys() - known.keys():
        unregister_attention(name)


@every_attention
@sizes
def test_any_grid_and_a_gradient_for_every_parameter(name, hw_shape):
    block, x = random_block(name), tokens(hw_shape).requires_grad_()
    out = block(x, hw_shape)
    assert out.shape == x.shape
    out.square().sum().backward()
    assert x.grad.isfinite().all()
    assert [n for n, p in block.named_parameters() if p.grad is None] == []
    if min(hw_shape) > 4:
        assert [n for n, p in block.named_parameters() if not p.grad.any()] == []


@every_attention
def test_both_memory_layouts_give_the_same(name):
    attn, x = random_block(name).attn, tokens((5, 7))
    channels_first = x.mT.contiguous().mT
    torch.testing.assert_close(attn(channels_first, (5, 7)), attn(x, (5, 7)))


@every_attention
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('kind', ['forward', 'forward_pre', 'full_backward', 'global'])
def test_hooks_fire_on_fused_paths_and_change_nothing(name, training, kind):
    block, x, fired = random_block(name).train(training), tokens((5, 7)), set()
    expected = block(x, (5, 7))
    paths = {module: path for path, module in block.named_modules()}

    def note(module, *_):
        fired.add(paths.get(module))

    if kind == 'global':
        handles = [nn.modules.module.register_module_forward_hook(note)]
    else:
        handles = [getattr(module, f'register_{kind}_hook')(note) for module in paths]
    out = block(x.requires_grad_(), (5, 7))
    out.sum().backward()
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(out, expected)
    assert fired >= set(paths.values())


class LoRALinear(nn.Module):
    """A frozen Linear plus a product of two small matrices, as adapters have it."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear
        self.down = nn.Parameter(0.3 * torch.randn(2, linear.in_features, dtype=torch.float64))
        self.up = nn.Parameter(0.3 * torch.randn(linear.out_features, 2, dtype=torch.float64))

    def forward(self, x):
        return self.linear(x) + x @ self.down.mT @ self.up.mT


@every_attention
@pytest.mark.parametrize('hw_shape', [(5, 7), (9, 4)], ids=str)
def test_adapters_act_on_fused_paths(name, hw_shape):
    adapted, merged, x = random_block(name), random_block(name), tokens(hw_shape)
    before = merged(x, hw_shape)
    for path, module in list(adapted.named_modules()):
        if type(module) is nn.Linear:
            adapter = LoRALinear(module)
            parent, _, name = path.rpartition('.')
            setattr(adapted.get_submodule(parent), name, adapter)
            merged.get_submodule(path).weight.data += adapter.up @ adapter.down
    out = adapted(x, hw_shape)
    torch.testing.assert_close(out, merged(x, hw_shape))
    assert not torch.allclose(out, before)
    out.sum().backward()
    adapters = [m for m in adapted.modules() if isinstance(m, LoRALinear)]
    assert adapters
    assert all(m.down.grad.any() and m.up.grad.any() for m in adapters)


def test_quantized_weights_are_not_read():
    """A parameter of another tensor type is for its module alone."""

    class Halved(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            with torch._C.DisableTorchFunctionSubclass():
                args = [a.as_subclass(torch.Tensor) / 2 if isinstance(a, cls) else a for a in args]
                return func(*args, **(kwargs or {}))

    block, halved, x = random_block('circulant'), random_block('circulant'), tokens((5, 7))
    for module in (block.attn.qkv, block.mlp.fc1):
        module.weight.data /= 2
    for module in (halved.attn.qkv, halved.mlp.fc1):
        module._parameters['weight'] = module.weight.data.as_subclass(Halved)
    with torch.no_grad():
        torch.testing.assert_close(halved(x, (5, 7)), block(x, (5, 7)))


@every_attention
@sizes
def test_attention_weights_are_a_distribution_over_the_grid(name, hw_shape):
    attn, x = random_block(name).attn, tokens(hw_shape)
    for token in {0, math.prod(hw_shape) // 2, math.prod(hw_shape) - 1}:
        weights = attn.attention_weights(x, hw_shape, token)
        assert weights.shape == (2, weights.shape[1], *hw_shape)
        assert (weights >= 0).all()
        assert (weights.sum((2, 3)) <= 1 + 1e-9).all()
        assert (weights.sum((2, 3)) > 0).all()


@pytest.mark.parametrize('hw_shape', [(1, 7), (5, 7), (6, 6), (3, 3)], ids=str)
@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('circulant', {'reweighting': None}),
        ('circulant', {'reweighting': None, 'head_dim': 4}),
        ('linear', {}),
        ('global', {}),
        ('spatial_reduction', {'sr_ratio': 1}),
        ('window', {}),
        ('window', {'shift': False}),
        ('stripes', {}),
        ('stripes', {'width': None}),
    ],
    ids=str,
)
def test_the_output_is_the_sum_of_values_by_the_weights(name, options, hw_shape):
    attn, x = random_block(name, **options).attn, tokens(hw_shape)
    attn.proj = nn.Identity()
    for module in attn.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:  # adds to the attention's result
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    out = attn(x, hw_shape)
    projected = attn.qkv(x) if hasattr(attn, 'qkv') else attn.kv(x)
    value = projected[..., -SPEC.embed_dims :]
    for token in (0, math.prod(hw_shape) // 2, math.prod(hw_shape) - 1):
        weights = attn.attention_weights(x, hw_shape, token).flatten(2)
        heads = value.unflatten(2, (weights.shape[1], -1))
        found = torch.einsum('bhm,bmhd->bhd', weights, heads).flatten(1)
        if name == 'window':  # padding tokens have values, too: their projection's bias
            bias = attn.qkv.bias[-SPEC.embed_dims :].unflatten(0, (weights.shape[1], -1))
            found += ((1 - weights.sum(2))[..., None] * bias).flatten(1)
        torch.testing.assert_close(found, out[:, token])


@every_attention
def test_declared_parameters_exist(name):
    attn = build_attention(name, SPEC)
    declared = {*attn.no_weight_decay, *attn.resized_parameters}
    declared |= {attn.signature} if attn.signature else set()
    assert declared <= dict(attn.named_parameters()).keys()
    assert set(attn.resized_parameters.values()) <= {'bilinear', 'bicubic'}
    assert attn.spec is SPEC
    assert attn.extra_macs((5, 7)) >= 0


@needs_new_torch
@every_attention
def test_one_graph_under_compile(name):
    torch._dynamo.reset()
    block = random_block(name)
    compiled = torch.compile(block, fullgraph=True, backend='aot_eager')
    results = []
    for run in (block, compiled):
        x = tokens((5, 7)).requires_grad_()
        y = run(x, (5, 7))
        gradients = torch.autograd.grad(y.square().sum(), [x, *block.parameters()])
        results.append([y, *gradients])
    for value, expected in zip(*results, strict=True):
        torch.testing.assert_close(value, expected)


@every_attention
@half_dtypes
def test_half_precision_and_autocast_stay_near(name, dtype):
    block, x = random_block(name).float(), tokens((5, 7)).float()
    expected = block(x, (5, 7))
    with torch.autocast('cpu', dtype):
        cast = block(x, (5, 7))
    half = block.to(dtype)(x.to(dtype), (5, 7))
    for out in (cast, half):
        assert (out.float() - expected).abs().max() <= 0.1 * expected.abs().max()


def test_letters_and_names():
    letters = attention_letters()
    assert (letters['C'], letters['L'], letters['S']) == ('circulant', 'linear', 'softmax')
    assert resolve_attn('CL', 2) == ('circulant', 'linear')
    assert resolve_attn(['window', 'S'], 2) == ('window', 'softmax')
    assert resolve_attn('global', 3) == ('global',) * 3


class Mean(Attention):
    def __init__(self, embed_dims, temperature=1.0):
        super().__init__()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('circulant',), "name 'circulant' is taken by mmca.layers.circulant.CirculantAttention"),
        (('softmax',), "name 'softmax' is taken by the families themselves"),
        (('mean', 'C'), "letter 'C' is taken by 'circulant'"),
        (('mean', 'S'), "letter 'S' is taken by 'softmax'"),
        (('mean', 'ME'), "one of A to Z, got 'ME'"),
        (('my mean',), "Python identifier of two characters or more, got 'my mean'"),
        (('M',), "two characters or more, got 'M'"),
    ],
    ids=str,
)
def test_names_and_letters_that_cannot_be_taken(arguments, message):
    before = registered_attentions(), attention_letters()
    with pytest.raises(InputError, match=message):
        register_attention(*arguments)(Mean)
    assert (registered_attentions(), attention_letters()) == before


def test_only_attentions_are_registered_and_once():
    with pytest.raises(InputError, match=r'not a subclass of mmca\.layers\.Attention'):
        register_attention('linear_layer')(nn.Linear)
    for _ in range(2):
        register_attention('mean', letter='M')(Mean)
        with pytest.raises(InputError, match="name 'mean' is taken"):
            register_attention('mean')(Mean)
        unregister_attention('mean')


@pytest.mark.parametrize(
    ('name', 'options', 'message'),
    [
        ('mean', {'temprature': 2}, "'temprature' of the attention 'mean', did you mean 'temper"),
        ('mean', {'window': 2}, r'\(known options: temperature\)'),
        ('mean', {'embed_dims': 2}, "unknown option 'embed_dims'"),
        ('absent', {}, "unknown attention 'absent'; choose from 'circulant' \\(C\\)"),
        ('circulant', {'head_dim': 3}, 'head_dim=3, embed_dims=8'),
        ('circulant', {'reweighting': 'after'}, "'after'"),
        ('circulant', {'scale': 'papr'}, "'papr'"),
        ('linear', {'kernel_size': 4}, 'odd, got 4'),
        ('linear', {'focusing_factor': 0.0}, 'positive, got 0.0'),
        ('linear', {'num_heads': 3}, 'embed_dims=8, num_heads=3'),
        ('global', {'num_heads': 3}, 'embed_dims=8, num_heads=3'),
        ('spatial_reduction', {'num_heads': 3}, 'embed_dims=8, num_heads=3'),
        ('window', {'num_heads': 3}, 'embed_dims=8, num_heads=3'),
        ('stripes', {'num_heads': 3}, 'embed_dims=8, num_heads=3'),
    ],
)
def test_bad_options_are_named(name, options, message):
    register_attention('mean', letter='M')(Mean)
    with pytest.raises(InputError, match=message):
        build_attention(name, SPEC, options)


def test_arguments_default_to_the_place_and_options_override_it():
    attn = build_attention('linear', StageSpec(8, 4, grid_size=6, drop_rate=0.1))
    assert (attn.num_heads, attn.proj_drop.p) == (4, 0.1)
    assert attn.positional_encoding.shape[1] == 36
    attn = build_attention('window', SPEC, {'window_size': 5, 'shift': False, 'attn_drop': 0.1})
    assert (attn.window_size, attn.shift_size, attn.attn_drop) == (5, 0, 0.1)
    assert build_attention('linear', SPEC, {'grid_size': 3}).positional_encoding.shape[1] == 9


@every_attention
def test_a_grid_of_another_size_is_refused(name):
    attn = build_attention(name, SPEC)
    for number in (11,) if attn.special_tokens else (11, 13):
        with pytest.raises(InputError, match=rf'hw_shape=\(3, 4\) has 12 tokens.*N={number}'):
            attn(torch.zeros(1, number, 8), (3, 4))
    with pytest.raises(InputError, match=r'C=8 channels, got \(1, 12, 6\)'):
        attn(torch.zeros(1, 12, 6), (3, 4))
