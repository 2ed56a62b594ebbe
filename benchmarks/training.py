"""Compare training in several precisions: losses, skipped steps, memory, time.

A backbone learns the mean color around every position of its maps, on the same random images in
each row: in float32, bfloat16 and float16 (with a gradient scaler), with recomputed activations,
with averaged weights, and in DistributedDataParallel. The table has the first and the last loss,
the largest difference of a loss from float32's, the steps that the scaler skipped, peak memory
and the time of a step. The exit code is 1 if the loss is not finite, does not fall, ends far from
float32's, or changes by recomputing or wrapping.
"""

import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from math import isfinite
from statistics import mean, median
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks.agreement import DisagreementError
from benchmarks.flags import COMMON, at_least
from benchmarks.measurement import configure
from benchmarks.models import SHAPE, build_backbone, check_names
from benchmarks.report import MIB, environment, write

LEARNING_RATE = 2e-4
BATCHES = 4  # that are repeated
WARM_UP = 3  # steps that are not timed
EARLY, SAME = 10, 1e-3  # steps, and what the order of sums may change their losses by
NEAR = 0.1  # of the first loss: how far the last ones of two precisions may be apart
FALLS = 0.9
DECAY = 0.8  # of the average
PATCH = 100  # pixels of one color in the random images
FLAGS = {
    '--backbone': dict(default='ca_pvt_s', metavar='NAME', help='default %(default)s'),
    '--batch': dict(type=at_least(1), default=2, help='images; default 2'),
    '--shape': SHAPE,
    '--steps': dict(type=at_least(5), default=200, help='of every row; default 200'),
    **{flag: COMMON[flag] for flag in ('--threads', '--device', '--tf32', '--seed', '--out')},
}


@dataclass(frozen=True)
class Variant:
    """One row: a way to train.

    Attributes:
        dtype: of autocast; None is float32.
        recomputed: whether the backward pass recomputes activations.
        averaged: whether a moving average of the weights gives the last losses.
        wrapped: whether DistributedDataParallel wraps the model, in one process.
    """

    dtype: torch.dtype | None = None
    recomputed: bool = False
    averaged: bool = False
    wrapped: bool = False


VARIANTS = {
    'float32': Variant(),
    'float32, recomputed': Variant(recomputed=True),
    'float32, wrapped': Variant(wrapped=True),
    'bfloat16': Variant(torch.bfloat16),
    'float16': Variant(torch.float16),
    'float16, recomputed': Variant(torch.float16, recomputed=True),
    'float16, averaged': Variant(torch.float16, averaged=True),
}


class Colors(nn.Module):
    """A backbone whose maps are projected to three colors: images -> loss."""

    def __init__(self, backbone: nn.Module, images: Tensor) -> None:
        super().__init__()
        self.backbone = backbone
        with torch.no_grad():
            widths = [out.shape[1] for out in backbone(images)]
        self.heads = nn.ModuleList(nn.Conv2d(width, 3, 1) for width in widths)

    def forward(self, images: Tensor) -> Tensor:
        outs = [head(x) for head, x in zip(self.heads, self.backbone(images), strict=True)]
        losses = [F.mse_loss(x, F.adaptive_avg_pool2d(images, x.shape[2:])) for x in outs]
        return torch.stack([loss.float() for loss in losses]).mean()


def run(args: Namespace) -> None:
    """Train every row, print the table, write `training.json`; raises a DisagreementError."""
    check_names([args.backbone])
    configure(args)
    fixed = dict(dtype=torch.float32, amp=False, rounds=args.steps, warmup=WARM_UP)
    about = Namespace(**vars(args), **fixed)
    report = {'command': 'training', 'environment': environment(about, ['training']), 'rows': {}}
    print(f'{"":22}{"first":>8}{"last":>8}{"distance":>10}{"skipped":>9}{"peak MiB":>10}{"ms":>8}')
    for name, variant in VARIANTS.items():
        row = train(variant, args)
        report['rows'][name] = row
        losses, exact = row['losses'], report['rows']['float32']['losses']
        row['distance'] = max(abs(a - b) for a, b in zip(losses, exact, strict=True))
        print(
            f'{name:22}{losses[0]:8.4f}{losses[-1]:8.4f}{row["distance"]:10.1e}{row["skipped"]:9}'
            f'{row["peak_bytes"] / MIB:10.0f}{1e3 * row["seconds"]:8.0f}',
            flush=True,
        )
        if reason := _fault(variant, losses, exact):
            raise DisagreementError(f'{name}: {reason}')
    write(report, args.out)


def train(variant: Variant, args: Namespace) -> dict:
    """Train one row: `losses`, median `seconds` of a step, `skipped`, `peak_bytes` (0 on CPUs)."""
    torch.manual_seed(args.seed)
    batches = [_images(args) for _ in range(BATCHES)]
    backbone = build_backbone(args.backbone)
    backbone.with_cp = variant.recomputed
    model = Colors(backbone, batches[0][:1].cpu()).to(args.device).train()
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(DECAY))
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE)
    kind, gpu = args.device.type, args.device.type == 'cuda'
    scaler = torch.amp.GradScaler(kind, enabled=variant.dtype == torch.float16)
    losses, seconds, skipped = [], [], 0
    if gpu:
        torch.cuda.reset_peak_memory_stats(args.device)
    with _one_process(kind) if variant.wrapped else nullcontext():
        wrapped = DistributedDataParallel(model) if variant.wrapped else model
        for i in range(args.steps):
            start = time.perf_counter()
            with torch.autocast(kind, variant.dtype, enabled=variant.dtype is not None):
                loss = wrapped(batches[i % BATCHES])
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scale = scaler.get_scale()
            scaler.step(optimizer)
            scaler.update()
            skipped += scaler.get_scale() < scale
            average.update_parameters(model)
            losses.append(loss.item())
            seconds.append(time.perf_counter() - start)
    if variant.averaged:
        with torch.no_grad():
            losses[-BATCHES:] = [average(images).item() for images in batches]
    peak = torch.cuda.max_memory_allocated(args.device) if gpu else 0
    seconds = median(seconds[WARM_UP:])
    return {'losses': losses, 'seconds': seconds, 'skipped': skipped, 'peak_bytes': peak}


def _images(args: Namespace) -> Tensor:
    """Random images of smooth patches: (batch, 3, H, W)."""
    sides = (-(-side // PATCH) + 1 for side in args.shape)
    coarse = torch.randn(args.batch, 3, *sides)
    return F.interpolate(coarse, size=tuple(args.shape), mode='bilinear').to(args.device)


@contextmanager
def _one_process(kind: str) -> Iterator[None]:
    with TemporaryDirectory() as folder:
        backend = 'nccl' if kind == 'cuda' else 'gloo'
        dist.init_process_group(backend, f'file://{folder}/store', rank=0, world_size=1)
        try:
            yield
        finally:
            dist.destroy_process_group()


def _fault(variant: Variant, losses: list[float], exact: list[float]) -> str | None:
    """What is wrong with a row, if anything."""
    if not all(map(isfinite, losses)):
        return 'a loss is not finite'
    first, last, last_exact = map(mean, (losses[:BATCHES], losses[-BATCHES:], exact[-BATCHES:]))
    if last > FALLS * first:
        return f'the loss does not fall: {first:.4f} to {last:.4f}'
    early = zip(losses[:EARLY], exact, strict=False)
    if variant.dtype is None and any(abs(a / b - 1) > SAME for a, b in early):
        return f'of the first {EARLY} losses one differs from float32 by more than {SAME}'
    if abs(last - last_exact) > NEAR * first:
        return f'the loss falls from {first:.4f} to {last:.4f}, in float32 to {last_exact:.4f}'
    return None
