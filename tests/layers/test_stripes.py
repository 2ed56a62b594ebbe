"""CSwin's block against one written stripe by stripe, from the paper (arXiv 2107.00652)."""

import math

import pytest
import torch
import torch.nn.functional as F

from mmca.errors import InputError
from mmca.layers import ProjectingBlock, StageSpec, StripesAttention, build_attention
from mmca.ops import naive

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


def convolve(grid, weight, bias):
    """(h, w, C), depth-wise, zeros around it."""
    maps, padding = grid.permute(2, 0, 1), weight.shape[-1] // 2
    return F.conv2d(maps, weight, bias, padding=padding, groups=len(weight)).permute(1, 2, 0)


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
    """Focused linear attention of the whole grid, and both convolutions."""
    hw_shape = q.shape[:2]
    table = parameters['attns.0.positional_encoding']
    side = math.isqrt(table.shape[1])
    table = table.reshape(1, side, side, DIMS).permute(0, 3, 1, 2)
    table = F.interpolate(table, hw_shape, mode='bilinear')[0].permute(1, 2, 0)
    scale = F.softplus(parameters['attns.0.scale'])
    tokens = (x.reshape(1, -1, DIMS) for x in (q, k + table, v))
    out = naive.focused_linear_attention(*tokens, scale, HEADS).view_as(v)
    dwc = (parameters[f'attns.0.dwc.{kind}'] for kind in ('weight', 'bias'))
    dwc = (x.repeat(HEADS, *[1] * (x.dim() - 1)) for x in dwc)  # shared by the heads
    lepe = (parameters[f'attns.0.get_v.{kind}'] for kind in ('weight', 'bias'))
    return out + convolve(v, *dwc) + convolve(v, *lepe)


def block_by_hand(block, x, hw_shape, name, width):
    """The block for one image: (N, C) -> (N, C)."""
    parameters = dict(block.named_parameters())
    qkv = block.qkv(block.norm1(x)).view(*hw_shape, 3, DIMS)
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
    x = x + block.proj(out.reshape(-1, DIMS))
    return x + block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x))))


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
    with pytest.raises(InputError, match=r'num_heads must be even .*got 3'):
        StripesAttention(12, num_heads=3)
    assert StripesAttention(12, num_heads=3, width=None)(torch.zeros(1, 6, 12), (2, 3)).shape
