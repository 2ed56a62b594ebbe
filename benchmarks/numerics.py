"""The accuracy of circulant attention in float32 against float64.

Largest error of the output and of all gradients, relative to the largest magnitude of each tensor.
The reference is float64: the dense form while its N x N weights are small enough, the baseline's
Fourier transforms beyond. Columns: the op in float64, the op and the baseline in float32, and both
with the projection. q and k have an offset, as projections produce.
"""

from argparse import Namespace
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from benchmarks import baselines
from benchmarks.agreement import relative_error
from benchmarks.flags import at_least
from mmca import ops
from mmca.ops import naive

SIDES = (7, 14, 28, 33, 56, 64, 112, 200, 256, 512, 1024)
DENSE_SIDE = 64  # N x N x C numbers in float64: 0.5 GB at 64 x 64
CHANNELS = 4
OFFSET = 2.0
# q and k of the same tokens correlate: the logit of a token with itself is about WEIGHT_STD^2 C
# sqrt(N). Larger weights would leave all attention to one token.
WEIGHT_STD = 0.1
HEADER = """\
Largest error of output / gradients:
| tokens | reference | op, float64 | op | baseline | op, projected | baseline, projected |
|---|---|---|---|---|---|---|"""
FLAGS = {
    '--sides': dict(nargs='+', type=at_least(1), default=SIDES, help='sides of the square grids'),
    '--seed': dict(type=int, default=0, help='random seed of the inputs; default 0'),
}


def run(args: Namespace) -> None:
    """Print a Markdown table, one line per grid."""
    print(HEADER)
    for side in args.sides:
        print(_line(side, args.seed), flush=True)


def _line(side: int, seed: int) -> str:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    hw_shape, dense = (side, side), side <= DENSE_SIDE
    q, k, v, x = normal(4, 1, side * side, CHANNELS).unbind()
    qkv = [q + OFFSET, k + OFFSET, v]
    projected = [x + OFFSET, WEIGHT_STD * normal(3 * CHANNELS, CHANNELS)]
    reference = naive.circulant_attention if dense else baselines.circulant_attention
    exact = results(reference, qkv, hw_shape)
    exact_projected = results(baselines.circulant_self_attention, projected, hw_shape)
    columns = [errors(results(ops.circulant_attention, qkv, hw_shape), exact)]
    for name, tensors, expected in (
        ('circulant_attention', qkv, exact),
        ('circulant_self_attention', projected, exact_projected),
    ):
        single = [t.float() for t in tensors]
        for module in (ops, baselines):
            columns.append(errors(results(getattr(module, name), single, hw_shape), expected))
    kind = 'dense' if dense else 'float64 FFT'
    cells = ' | '.join(f'{out:.0e} / {gradient:.0e}' for out, gradient in columns)
    return f'| {side} x {side} | {kind} | {cells} |'


def results(
    function: Callable[..., Tensor], tensors: Sequence[Tensor], hw_shape: tuple[int, int]
) -> list[Tensor]:
    """The output of an op, then the gradient of a fixed random functional of it per input."""
    tensors = [t.detach().requires_grad_() for t in tensors]
    out = function(*tensors, hw_shape)
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, tensors, weight)]


def errors(found: Sequence[Tensor], exact: Sequence[Tensor]) -> tuple[float, float]:
    """Largest relative error of the output and of the gradients."""
    out, *gradients = (relative_error(*pair) for pair in zip(found, exact, strict=True))
    return out, max(gradients)
