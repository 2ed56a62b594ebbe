"""CSwin's block against one written stripe by stripe, from the paper (arXiv 2107.00652)."""

import math

import pytest
import torch
import torch.nn.functional as F

from mmca.errors import InputError
from mmca.layers import ProjectingBlock, StageSpec, StripesAttention, build_attention

DIMS, HEADS = 16, 4


def random_block(name, width, grid_size=4):
    """A block in float64 none of whose parameters is at its neutral initial value."""
    torch.manual_seed(0)
    place = {'grid_size': grid_size, 'window_size': width, 'projects': False, 'lepe': True}
    attn = build_attention(name, StageSpec(DIMS, HEADS, **place))
    block = ProjectingBlock(DIMS, attn, mlp_ratio=2, norm_eps=1e-5).double()
    for parameter in block.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return block


def norm(x, parameters, name):
    centered = x - x.mean(-1, keepdim=True)
    scaled = centered / (centered.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * parameters[f'{name}.weight'] + parameters[f'{name}.bias']


def linear(x, parameters, name):
    return x @ parameters[f'{name}.weight'].T + parameters[f'{name}.bias']


def convolve(grid, weight, bias):
    """(h, w, C), depth-wise, zeros around it: one position and one offset at a time."""
    (height, width), reach = grid.shape[:2], weight.shape[-1] // 2
    rows = []
    for y in range(height):
        for x in range(width):
            total = bias
            for dy in range(-reach, reach + 1):
                for dx in range(-reach, reach + 1):
                    if 0 <= y + dy < height and 0 <= x + dx < width:
                        total = total + weight[:, 0, dy + reach, dx + reach] * grid[y + dy, x + dx]
            rows.append(total)
    return torch.stack(rows).view_as(grid)


def parts(size, width):
    """The stripes of a line of tokens: those at the border are narrower, on both sides."""
    first = width - -size % width // 2
    starts = [0, *range(first, size, width)]
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], size], strict=True) if b > a]


def softmax_branch(q, k, v, stripes, heads, weight, bias):
    """(H, W, C) each -> (H, W, C)."""
    out, dims = torch.zeros_like(v), v.shape[2] // heads
    for rows, columns in stripes:
        lepe = convolve(v[rows, columns], weight, bias)
        for head in range(heads):
            at = slice(head * dims, (head + 1) * dims)
            a, b, c = (x[rows, columns, at].reshape(-1, dims) for x in (q, k, v))
            attended = (a @ b.T / math.sqrt(dims)).softmax(1) @ c
            out[rows, columns, at] = attended.view_as(lepe[..., at]) + lepe[..., at]
    return out


def linear_branch(q, k, v, parameters):
    """Focused linear attention of the whole grid, with N x N weights, and both convolutions."""
    hw_shape, dims = q.shape[:2], DIMS // HEADS
    table = parameters['attns.0.positional_encoding']
    side = math.isqrt(table.shape[1])
    table = table.reshape(1, side, side, DIMS).permute(0, 3, 1, 2)
    table = F.interpolate(table, hw_shape, mode='bilinear')[0].permute(1, 2, 0)
    scale = F.softplus(parameters['attns.0.scale'])[0]

    def focus(x):
        u = (x.reshape(-1, DIMS).relu() + 1e-6) / scale
        return u.norm(dim=1, keepdim=True) * u**3 / (u**3).norm(dim=1, keepdim=True)

    q, k, outs = focus(q), focus(k + table), []
    for head in range(HEADS):
        at = slice(head * dims, (head + 1) * dims)
        weights = q[:, at] @ k[:, at].T / len(k)
        out = weights @ v[..., at].reshape(-1, dims) / (weights.sum(1, keepdim=True) + 1e-6)
        local = convolve(
            v[..., at], parameters['attns.0.dwc.weight'], parameters['attns.0.dwc.bias']
        )
        outs.append(out.view_as(local) + local)
    lepe = convolve(v, parameters['attns.0.get_v.weight'], parameters['attns.0.get_v.bias'])
    return torch.cat(outs, 2) + lepe


def block_by_hand(block, x, hw_shape, name, width):
    """The block for one image, from its parameters alone: (N, C) -> (N, C)."""
    parameters = dict(block.named_parameters())
    qkv = linear(norm(x, parameters, 'norm1'), parameters, 'qkv').view(*hw_shape, 3, DIMS)
    whole = slice(None)
    if name == 'linear':
        out = linear_branch(*qkv.unbind(2), parameters)
    else:
        directions = [[(whole, whole)]]
        if width is not None:
            directions = [
                [(whole, columns) for columns in parts(hw_shape[1], width)],
                [(rows, whole) for rows in parts(hw_shape[0], width)],
            ]
        number, outs = len(directions), []
        for branch, stripes in enumerate(directions):
            q, k, v = qkv.chunk(number, 3)[branch].unbind(2)
            lepe = (parameters[f'attns.{branch}.get_v.{kind}'] for kind in ('weight', 'bias'))
            outs.append(softmax_branch(q, k, v, stripes, HEADS // number, *lepe))
        out = torch.cat(outs, 2)
    x = x + linear(out.reshape(-1, DIMS), parameters, 'proj')
    hidden = linear(norm(x, parameters, 'norm2'), parameters, 'mlp.fc1')
    hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
    return x + linear(hidden, parameters, 'mlp.fc2')


@pytest.mark.parametrize('hw_shape', [(1, 1), (1, 7), (3, 4), (4, 4), (5, 11), (7, 2)], ids=str)
@pytest.mark.parametrize(
    ('name', 'width'),
    [('stripes', 1), ('stripes', 2), ('stripes', 3), ('stripes', 7), ('stripes', None)]
    + [('linear', None)],
)
def test_the_block_is_its_definition_in_outputs_and_gradients(name, width, hw_shape):
    block = random_block(name, width)
    x = torch.randn(2, math.prod(hw_shape), DIMS, dtype=torch.float64, requires_grad=True)
    weight = torch.randn_like(x)
    results = []
    for out in (
        block(x, hw_shape),
        torch.stack([block_by_hand(block, image, hw_shape, name, width) for image in x]),
    ):
        results.append([out, *torch.autograd.grad(out, [x, *block.parameters()], weight)])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ('size', 'widths'), [(8, [4, 4]), (12, [6, 6]), (15, [4, 7, 4]), (14, [7, 7])]
)
def test_the_border_has_narrower_stripes(size, widths):
    """What a token attends to, counted: no weight goes to padding."""
    attn, x = StripesAttention(DIMS, HEADS, width=7), torch.randn(1, size * 3, DIMS)
    for axis, hw_shape in enumerate([(3, size), (size, 3)]):
        step = 1 if axis == 0 else 3
        seen = []
        for place in range(size):
            weights = attn.attention_weights(x, hw_shape, place * step)[0, axis * 2]
            torch.testing.assert_close(weights.sum(), torch.tensor(1.0))
            seen.append((weights.sum(axis) > 0).sum().item())
        assert seen == [width for width in widths for _ in range(width)]


def test_an_odd_number_of_heads_is_refused():
    with pytest.raises(InputError, match=r'num_heads must be even, half for each.*got 3'):
        StripesAttention(12, num_heads=3)
    assert StripesAttention(12, num_heads=3, width=None)(torch.zeros(1, 6, 12), (2, 3)).shape
