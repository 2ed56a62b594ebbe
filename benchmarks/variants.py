"""One backbone run in several ways: compiled, in half precision, with TF32, as CUDA graphs."""

from argparse import Namespace
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.cases import Case, Workload, random_inputs, register_suite
from benchmarks.flags import at_least
from benchmarks.models import SHAPE, build_backbone, check_names
from mmca.config.packages import require
from mmca.errors import InputError


@dataclass(frozen=True)
class Variant:
    """A way to run a module.

    Attributes:
        dtype: of autocast; None is none.
        compiled: by `torch.compile` in this mode; None is not compiled.
        gpu: needs one.
    """

    dtype: torch.dtype | None = None
    compiled: str | None = None
    gpu: bool = False


VARIANTS = {
    'eager': Variant(),
    'compiled': Variant(compiled='default'),
    'bfloat16': Variant(torch.bfloat16),
    'bfloat16, compiled': Variant(torch.bfloat16, 'default'),
    'float16': Variant(torch.float16, gpu=True),
    'float16, compiled': Variant(torch.float16, 'default', gpu=True),
    'float16, graphs': Variant(torch.float16, 'reduce-overhead', gpu=True),
}


class Run(nn.Module):
    """A module that is run in one of the ways."""

    def __init__(self, module: nn.Module, variant: Variant) -> None:
        super().__init__()
        self.module, self.dtype = module, variant.dtype
        self.run = module
        if variant.compiled:
            self.run = torch.compile(module, mode=variant.compiled)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> the module's maps."""
        kind = images.device.type
        with torch.autocast(kind, self.dtype) if self.dtype else nullcontext():
            return self.run(images)


@register_suite(
    'variants',
    rounds=5,
    flags={
        '--backbone': dict(default='capvt_s', metavar='NAME', help='default %(default)s'),
        '--shape': SHAPE,
        '--batch': dict(type=at_least(1), default=1, help='images; default 1'),
    },
)
def variant_cases(args: Namespace) -> list[Case]:
    """A backbone compiled, in half precision and, on GPUs, as CUDA graphs, beside itself."""
    if args.amp or args.dtype != torch.float32:
        raise InputError('variants has rows of every precision: leave out --amp and --dtype')
    require('mmengine')
    check_names([args.backbone])
    cpu = args.device.type == 'cpu'
    skipped = {name: 'needs a GPU' for name, variant in VARIANTS.items() if variant.gpu and cpu}

    def build(variant: Variant) -> Workload:
        (images,) = random_inputs([(args.batch, 3, *args.shape)], args)
        module = build_backbone(args.backbone).to(args.device)
        return Workload(Run(module, variant), (images.detach(),))

    builders = {name: partial(build, v) for name, v in VARIANTS.items() if name not in skipped}
    ours = tuple(name for name in builders if name != 'eager')
    label = f'{args.backbone}, {args.batch}x3x{args.shape[0]}x{args.shape[1]}'
    return [Case(label, builders, ours, skipped=skipped, images=args.batch)]
