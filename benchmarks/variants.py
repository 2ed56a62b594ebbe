"""One backbone run in several ways: compiled, in half precision, with TF32, as CUDA graphs."""

from argparse import Namespace
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.cases import Case, Workload, random_inputs, register_suite
from benchmarks.flags import at_least
from benchmarks.models import SHAPE, build_backbone, check_names
from mmca.errors import InputError


@dataclass(frozen=True)
class Variant:
    """A way to run a module: in autocast, compiled; `gpu` if it needs one."""

    dtype: torch.dtype | None = None  # of autocast
    compiled: str | None = None  # mode of torch.compile
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
    """A module in one variant: images (B, 3, H, W) -> the module's maps."""

    def __init__(self, module: nn.Module, variant: Variant) -> None:
        super().__init__()
        mode = variant.compiled
        self.run = torch.compile(module, mode=mode) if mode else module
        self.dtype = variant.dtype

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype is not None):
            return self.run(images)


@register_suite(
    'variants',
    rounds=5,
    flags={
        '--backbone': dict(default='ca_pvt_s', metavar='NAME', help='default %(default)s'),
        '--shape': SHAPE,
        '--batch': dict(type=at_least(1), default=1, help='batch size; default 1'),
    },
)
def variant_cases(args: Namespace) -> list[Case]:
    """A backbone compiled, in half precision and, on GPUs, with CUDA graphs."""
    if args.amp or args.dtype != torch.float32:
        raise InputError('variants includes all precisions: remove --amp and --dtype')
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
