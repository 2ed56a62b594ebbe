"""Softmax attention whose logits are exact in windows, and projected beyond them."""

import pytest
import torch
from torch import Tensor, nn

from mmca.errors import InputError
from mmca.layers import SelfAttention, StageSpec, WindowedCirculantAttention, build_attention
from mmca.ops import naive, use_backend

CASES = [(0, (5, 7)), (1, (5, 7)), (3, (4, 4)), (1, (1, 1)), (0, (1, 6))]


def pair(window_size: int) -> tuple[SelfAttention, WindowedCirculantAttention]:
    """Softmax attention, and the same weights with projected logits."""
    torch.manual_seed(0)
    teacher = SelfAttention(16, num_heads=2).double()
    for parameter in teacher.parameters():
        nn.init.normal_(parameter, std=0.5)
    student = WindowedCirculantAttention(16, num_heads=2, window_size=window_size).double()
    student.load_state_dict(teacher.state_dict())
    return teacher, student


def projected(
    teacher: SelfAttention, x: Tensor, special: int, hw_shape: tuple[int, int], window_size: int
) -> tuple[Tensor, Tensor]:
    """The output and weights of softmax attention whose logits are projected beyond windows."""
    heads = teacher.qkv(x).unflatten(2, (3, 2, 8)).permute(2, 0, 3, 1, 4)
    logits = heads[0] @ heads[1].mT / 8**0.5
    grid = logits[:, :, special:, special:]
    rows, columns, all_of_them = (grid.mean(dims, keepdim=True) for dims in (3, 2, (2, 3)))
    far = naive.nearest_bccb(grid, hw_shape) + rows + columns - 2 * all_of_them
    for n, m in torch.cartesian_prod(*[torch.arange(grid.shape[3])] * 2).tolist():
        here, there = divmod(n, hw_shape[1]), divmod(m, hw_shape[1])
        if any(a // window_size != b // window_size for a, b in zip(here, there)):
            grid[:, :, n, m] = far[:, :, n, m]
    weights = logits.softmax(3)
    return teacher.proj((weights @ heads[2]).transpose(1, 2).flatten(2)), weights


@torch.no_grad()
@pytest.mark.parametrize('backend', ['fused', 'eager'])
@pytest.mark.parametrize('window_size', [2, 3])
@pytest.mark.parametrize(('special', 'hw_shape'), CASES, ids=str)
def test_it_is_softmax_attention_with_projected_logits(special, hw_shape, window_size, backend):
    teacher, student = pair(window_size)
    x = torch.randn(2, special + hw_shape[0] * hw_shape[1], 16, dtype=torch.float64)
    out, weights = projected(teacher, x, special, hw_shape, window_size)
    with use_backend(backend):
        torch.testing.assert_close(student(x, hw_shape), out)
    grid = weights[:, :, special:, special:]
    torch.testing.assert_close(student.attention_matrix(x, hw_shape), grid)
    token = grid.shape[3] // 2
    found = student.attention_weights(x, hw_shape, token)
    torch.testing.assert_close(found.flatten(2), grid[:, :, token])


def test_one_window_over_the_grid_is_softmax_attention():
    teacher, student = pair(window_size=7)
    x = torch.randn(2, 1 + 35, 16, dtype=torch.float64)
    torch.testing.assert_close(student(x, (5, 7)), teacher(x, (5, 7)))


@pytest.mark.parametrize(('family', 'size'), [(7, 7), (12, 12), (None, 7)])
def test_windows_are_the_familys(family, size):
    spec = StageSpec(embed_dims=16, num_heads=2, window_size=family)
    assert build_attention('windowed_circulant', spec).window_size == size
    assert build_attention('windowed_circulant', spec, {'window_size': 3}).window_size == 3


def test_a_window_without_tokens_is_refused():
    with pytest.raises(InputError, match='at least 1, got 0'):
        WindowedCirculantAttention(16, 2, window_size=0)
