"""Circulant attention with keys is softmax attention with its logits projected."""

import pytest
import torch
from torch import Tensor, nn

from mmca.errors import InputError
from mmca.layers import (
    Block,
    CirculantAttention,
    KeyedCirculantAttention,
    SelfAttention,
    StageSpec,
    build_attention,
)
from mmca.ops import naive, use_backend

SPEC = StageSpec(embed_dims=16, num_heads=2)
CASES = [(0, (5, 7)), (1, (5, 7)), (3, (4, 4)), (1, (1, 1)), (0, (1, 6))]


def pair(**options) -> tuple[SelfAttention, KeyedCirculantAttention]:
    """Softmax attention, and attention with keys that starts from its weights."""
    torch.manual_seed(0)
    teacher = SelfAttention(16, num_heads=2).double()
    for parameter in teacher.parameters():
        nn.init.normal_(parameter, std=0.5)
    student = KeyedCirculantAttention(16, num_heads=2, **options).double()
    start = student.from_softmax(teacher.state_dict(), SPEC)
    student.load_state_dict({name: start[name] for name in student.state_dict()})
    return teacher, student


def projected(teacher: SelfAttention, x: Tensor, special: int, hw_shape) -> tuple[Tensor, Tensor]:
    """The output and weights of softmax attention whose logits in the grid are projected."""
    heads = teacher.qkv(x).unflatten(2, (3, 2, 8)).permute(2, 0, 3, 1, 4)
    logits = heads[0] @ heads[1].mT / 8**0.5
    grid = logits[:, :, special:, special:]
    means = [grid.mean(dims, keepdim=True) for dims in (2, 3, (2, 3))]
    grid.copy_(naive.nearest_bccb(grid, hw_shape) + means[0] + means[1] - 2 * means[2])
    weights = logits.softmax(3)
    return teacher.proj((weights @ heads[2]).transpose(1, 2).flatten(2)), weights


@torch.no_grad()
@pytest.mark.parametrize('backend', ['fused', 'eager'])
@pytest.mark.parametrize('gate', [False, True])
@pytest.mark.parametrize(('special', 'hw_shape'), CASES, ids=str)
def test_it_starts_as_the_projection_of_softmax_attention(special, hw_shape, gate, backend):
    teacher, student = pair(gate=gate)
    tokens = special + hw_shape[0] * hw_shape[1]
    x = torch.randn(2, tokens, 16, dtype=torch.float64)
    out, weights = projected(teacher, x, special, hw_shape)
    with use_backend(backend):
        torch.testing.assert_close(student(x, hw_shape), out)
        grid = weights[:, :, special:, special:]
        torch.testing.assert_close(student.attention_matrix(x, hw_shape), grid)
        token = grid.shape[3] // 2
        found = student.attention_weights(x, hw_shape, token)
        torch.testing.assert_close(found.flatten(2), grid[:, :, token])


@torch.no_grad()
def test_gains_weigh_the_kernel_and_the_keys():
    _, student = pair()
    x = torch.randn(1, 35, 16, dtype=torch.float64)
    student.gains[:, 1] = 0
    circulant = CirculantAttention(16, head_dim=8, scale='paper', reweighting=None).double()
    circulant.load_state_dict(
        {
            'qkv.weight': student.qkv.weight,
            'proj.weight': student.proj.weight,
            'proj.bias': student.proj.bias + student.proj.weight @ student.qkv.bias[32:],
        }
    )
    torch.testing.assert_close(student(x, (5, 7)), circulant(x, (5, 7)))
    student.gains[:, 0], student.gains[:, 1] = 0, 1
    rows = student.attention_matrix(x, (5, 7))
    torch.testing.assert_close(rows, rows[:, :, :1].expand_as(rows))


def test_calibration_finds_the_gains_of_each_head():
    _, student = pair(gate=True)
    x = torch.randn(3, 1 + 35, 16, dtype=torch.float64)
    gains = torch.tensor([[1.25, 0.5], [0.75, 0.0]])
    with torch.no_grad():
        student.gains.copy_(gains)
        target = student(x, (5, 7))
        student.gains.fill_(1)
        student.calibrate(x, (5, 7), target)
    assert torch.equal(student.gains, gains.double())


def test_special_tokens_and_a_positional_convolution():
    attn = build_attention('keyed_circulant', SPEC, {'cpe': True})
    assert attn.uses_cpe
    block = Block(16, attn, cpe=True)
    x = torch.randn(2, 36, 16, requires_grad=True)
    block(x, (5, 7)).square().sum().backward()
    assert all(parameter.grad.any() for parameter in block.parameters())


def test_the_heads_of_the_softmax_attention_for_circulant_attention():
    attn = build_attention('circulant', SPEC, {'head_dim': 'softmax', 'scale': 'paper'})
    assert attn.head_dim == 8


def test_fewer_tokens_than_the_grid_are_refused():
    with pytest.raises(InputError, match='N=34'):
        KeyedCirculantAttention(16, 2)(torch.zeros(1, 34, 16), (5, 7))
