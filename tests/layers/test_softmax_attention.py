"""Self-, spatial-reduction and window attention against forms written out token by token."""

import pytest
import torch

from mmca.layers import SelfAttention, SpatialReductionAttention, WindowAttention


def attend(q, k, v, bias=0.0):
    """One head: (N, d), (M, d), (M, d) -> (N, d)."""
    return (q @ k.T / q.shape[1] ** 0.5 + bias).softmax(1) @ v


@pytest.mark.parametrize('hw_shape', [(1, 1), (3, 5), (1, 7)])
def test_self_attention_by_hand(hw_shape):
    layer = SelfAttention(12, 3).double()
    x = torch.randn(1, hw_shape[0] * hw_shape[1], 12).double()
    q, k, v = layer.qkv(x[0]).chunk(3, dim=1)
    heads = [attend(q[:, h], k[:, h], v[:, h]) for h in (slice(0, 4), slice(4, 8), slice(8, 12))]
    torch.testing.assert_close(layer(x, hw_shape)[0], layer.proj(torch.cat(heads, 1)))


@pytest.mark.parametrize(
    ('hw_shape', 'sr_ratio'), [((4, 6), 2), ((5, 7), 2), ((3, 3), 1), ((9, 4), 4)]
)
def test_spatial_reduction_by_hand(hw_shape, sr_ratio):
    layer = SpatialReductionAttention(8, 2, sr_ratio).double()
    (height, width), x = hw_shape, torch.randn(1, hw_shape[0] * hw_shape[1], 8).double()
    reduced = x[0]
    if sr_ratio > 1:
        grid, cells = x.view(height, width, 8), []
        for i in range(height // sr_ratio):
            for j in range(width // sr_ratio):
                rows = slice(i * sr_ratio, (i + 1) * sr_ratio)
                cols = slice(j * sr_ratio, (j + 1) * sr_ratio)
                cell = torch.einsum('yxc,ocyx->o', grid[rows, cols], layer.sr.weight)
                cells.append(cell + layer.sr.bias)
        reduced = layer.norm(torch.stack(cells))
    q, (k, v) = layer.q(x[0]), layer.kv(reduced).chunk(2, dim=1)
    heads = [attend(q[:, h], k[:, h], v[:, h]) for h in (slice(0, 4), slice(4, 8))]
    torch.testing.assert_close(layer(x, hw_shape)[0], layer.proj(torch.cat(heads, 1)))


def windows_by_hand(layer, x, hw_shape, shift):
    """Window attention with windows found token by token; padding tokens are zeros."""
    (height, width), size = hw_shape, layer.window_size
    rows, cols = -(-height // size) * size, -(-width // size) * size
    grid = x.new_zeros(rows, cols, x.shape[2])
    grid[:height, :width] = x.view(height, width, -1)
    out = torch.empty_like(grid)
    groups = {}
    for y in range(rows):
        for z in range(cols):
            v, w = (y - shift) % rows, (z - shift) % cols  # its place after the roll
            far = (shift > 0 and y < shift, shift > 0 and z < shift)  # rolled in from afar
            groups.setdefault((v // size, w // size, far), []).append((y, z))
    q, k, v = layer.qkv(grid).chunk(3, dim=2)
    dims = x.shape[2] // layer.num_heads
    for tokens in groups.values():
        y, z = torch.tensor(tokens).T
        rows_apart, cols_apart = y[:, None] - y, z[:, None] - z
        index = (rows_apart + size - 1) * (2 * size - 1) + cols_apart + size - 1
        for head in range(layer.num_heads):
            at = y, z, slice(head * dims, (head + 1) * dims)
            bias = layer.relative_position_bias_table[index, head]
            out[at] = attend(q[at], k[at], v[at], bias)
    return layer.proj(out)[:height, :width].reshape(1, height * width, -1)


@pytest.mark.parametrize('shift', [False, True])
@pytest.mark.parametrize('hw_shape', [(6, 6), (7, 5), (4, 8), (2, 9), (3, 3), (2, 1)])
def test_windows_by_hand(hw_shape, shift):
    layer = WindowAttention(8, 2, window_size=3, shift=shift).double()
    torch.nn.init.normal_(layer.relative_position_bias_table)
    x = torch.randn(1, hw_shape[0] * hw_shape[1], 8, dtype=torch.float64)
    fits = max(hw_shape) <= 3
    expected = windows_by_hand(layer, x, hw_shape, 1 if shift and not fits else 0)
    torch.testing.assert_close(layer(x, hw_shape), expected)


def test_images_of_a_batch_are_independent():
    layer = WindowAttention(8, 2, shift=True).eval()
    x = torch.randn(3, 9 * 15, 8)
    alone = torch.cat([layer(x[i : i + 1], (9, 15)) for i in range(3)])
    torch.testing.assert_close(layer(x, (9, 15)), alone)
