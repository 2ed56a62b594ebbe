"""Tracing leaves nothing behind: eager mode works as before after exports and fake tensors."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mmca.layers import Block, StageSpec, build_attention, registered_attentions
from mmca.layers.window import _cached_window_layout
from mmca.ops import fft

SPEC = StageSpec(embed_dims=8, num_heads=2, grid_size=6, sr_ratio=2, window_size=3, block=1)
every_attention = pytest.mark.parametrize('name', registered_attentions())


@pytest.fixture(autouse=True)
def empty_caches():
    for cache in (_cached_window_layout, fft._matrix, fft._inverse_matrix):
        cache.cache_clear()


def skip_on_torch_2_6(name):
    if name == 'circulant' and torch.__version__.startswith('2.6.'):
        pytest.skip('torch 2.6 knows no shapes of FFTs of symbolic size')


def build(name):
    attn = build_attention(name, SPEC)
    return Block(8, attn, cpe=attn.uses_cpe).eval()


@every_attention
def test_eager_mode_after_fake_tensors(name):
    block, x = build(name), torch.randn(1, 35, 8)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        assert type(block(mode.from_tensor(x), (5, 7))) is not torch.Tensor
    out = block(x, (5, 7))
    assert type(out) is torch.Tensor
    assert out.isfinite().all()


@every_attention
def test_eager_mode_after_an_export_and_the_export_is_right(name):
    block, x = build(name), torch.randn(1, 35, 8)
    program = torch.export.export(block, (x, (5, 7)), strict=False)
    expected = block(x, (5, 7))
    assert type(expected) is torch.Tensor
    torch.testing.assert_close(program.module()(x, (5, 7)), expected)


@every_attention
def test_export_with_a_dynamic_batch(name):
    skip_on_torch_2_6(name)
    block, x = build(name), torch.randn(2, 35, 8)
    batch = torch.export.Dim('batch', min=1, max=64)
    shapes = {0: batch}, (None, None)
    program = torch.export.export(block, (x, (5, 7)), dynamic_shapes=shapes, strict=False)
    for size in (1, 2, 5):
        x = torch.randn(size, 35, 8)
        torch.testing.assert_close(program.module()(x, (5, 7)), block(x, (5, 7)))


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=pytest.mark.slow if name == 'window' else ())
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
