"""How exact circulant attention is in float32: python tools/error_study.py [--sides N ...].

Largest error of the output and of the gradients of q, k and v, over the largest magnitude of each,
against float64: the dense form while its N x N weights are small enough, the same formula by
float64 transforms beyond. Beside it the same for a straightforward float32 implementation, and
for the op in float64 against the dense form. q and k carry an offset, as projections do.
"""

import argparse

import torch
from peers import straightforward_attention, straightforward_self_attention
from torch import Tensor

from mmca.ops import circulant_attention, circulant_self_attention, naive

SIDES = (7, 14, 28, 33, 56, 64, 112, 200, 256, 512, 1024)
DENSE_SIDES = 64  # N x N x C numbers in float64: 0.5 GB at 64 x 64
CHANNELS = 4
OFFSET = 2.0
# q and k of the same tokens correlate: the logit of a token with itself is about WEIGHT_STD^2 C
# sqrt(N). Weights of a layer's size keep the softmax from being one token's alone.
WEIGHT_STD = 0.1


def results(function, tensors: list[Tensor], *args) -> list[Tensor]:
    """The output of an op and the gradients of a fixed random functional of it.

    Args:
        function: the op.
        tensors: its floating inputs, in the dtype to compute in.
        args: what else it takes.

    Returns:
        The output, then one gradient for each input.
    """
    tensors = [t.detach().requires_grad_() for t in tensors]
    out = function(*tensors, *args)
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, tensors, weight)]


def error(values: list[Tensor], exact: list[Tensor]) -> tuple[float, float]:
    """Largest relative error of the output and of the gradients.

    Args:
        values: as :func:`results` gives them.
        exact: the same in float64.

    Returns:
        Both, each over the largest magnitude of its tensor.
    """
    errors = [
        ((value.double() - best).abs().max() / best.abs().max()).item()
        for value, best in zip(values, exact, strict=True)
    ]
    return errors[0], max(errors[1:])


def study(side: int, seed: int) -> str:
    """One line of the table.

    Args:
        side: tokens along each side of the grid.
        seed: of the random inputs.

    Returns:
        The line.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    hw_shape, dense = (side, side), side <= DENSE_SIDES
    q, k, v, x = draw(4, 1, side * side, CHANNELS).unbind()
    qkv = [q + OFFSET, k + OFFSET, v]
    given = [x + OFFSET, WEIGHT_STD * draw(3 * CHANNELS, CHANNELS)]
    attention = naive.circulant_attention if dense else straightforward_attention
    exact = results(attention, qkv, hw_shape)
    single = [t.float() for t in qkv]
    single_given = [t.float() for t in given]
    exact_given = results(straightforward_self_attention, given, hw_shape)
    columns = [
        error(results(circulant_attention, qkv, hw_shape), exact),
        error(results(circulant_attention, single, hw_shape), exact),
        error(results(straightforward_attention, single, hw_shape), exact),
        error(results(circulant_self_attention, single_given, hw_shape), exact_given),
        error(results(straightforward_self_attention, single_given, hw_shape), exact_given),
    ]
    kind = 'dense' if dense else 'float64 FFT'
    cells = ' | '.join(f'{out:.0e} / {gradient:.0e}' for out, gradient in columns)
    return f'| {side} x {side} | {kind} | {cells} |'


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--sides', type=int, nargs='+', default=SIDES, help='sides of the grids')
    parser.add_argument('--seed', type=int, default=0, help='of the random inputs')
    args = parser.parse_args()
    print('Largest error of output / gradients:')
    columns = 'op, float64 | op | plain | op with projection | plain with projection'
    print(f'| tokens | against | {columns} |')
    print('|---|---|---|---|---|---|---|')
    for side in args.sides:
        print(study(side, args.seed), flush=True)


if __name__ == '__main__':
    main()
