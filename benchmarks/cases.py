"""What a benchmark compares: workloads, cases made of them, suites that list the cases.

`args` is always the parsed command line. Cases are built from it alone, so that a new process can
rebuild one workload and measure its memory.
"""

from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mmca.checkpoint.key_mapping import to_original_names


@dataclass
class Workload:
    """Something that runs forward and backward and can be timed.

    Attributes:
        call: a module or a function.
        inputs: its arguments.
        probe: arguments for the agreement check, if `inputs` are too large.
        after: what a training step does after the backward pass.
        grads: gradients of the outputs, generated once.
    """

    call: Callable[..., Any]
    inputs: tuple
    probe: tuple | None = None
    after: Callable[[], None] | None = None
    grads: list[Tensor] | None = None

    def parameters(self) -> list[Tensor]:
        """The module's; a function has none."""
        return list(self.call.parameters()) if isinstance(self.call, nn.Module) else []


@dataclass(frozen=True)
class Case:
    """Workloads that are timed together.

    Attributes:
        name: the size, or what distinguishes the case.
        builders: name -> function that builds the workload.
        ours: the names whose ratios to all others are reported.
        same: pairs (ours, baseline) that must agree in outputs and gradients, given equal weights.
        skipped: name -> why this workload is left out.
        images: in a batch, if images per second are reported.
    """

    name: str
    builders: dict[str, Callable[[], Workload]]
    ours: tuple[str, ...]
    same: tuple[tuple[str, str], ...] = ()
    skipped: dict[str, str] = field(default_factory=dict)
    images: int = 0

    def build(self, seed: int) -> dict[str, Workload]:
        """Build all workloads; those that must agree get equal weights."""
        workloads = {}
        for name, builder in self.builders.items():
            torch.manual_seed(seed)
            workloads[name] = builder()
        for ours, baseline in self.same:
            if isinstance(workloads[baseline].call, nn.Module):
                weights, _ = to_original_names(dict(workloads[baseline].call.named_parameters()))
                workloads[ours].call.load_state_dict(weights)
        return workloads


@dataclass(frozen=True)
class Suite:
    """A sub-command.

    Attributes:
        cases: args -> cases; the first line of its docstring is the help.
        rounds: how many are timed by default.
        flags: its own flags -> keywords of `add_argument`.
    """

    cases: Callable[[Namespace], list[Case]]
    rounds: int
    flags: dict[str, dict]


SUITES: dict[str, Suite] = {}


def register_suite(name: str, **settings: Any) -> Callable:
    """Decorate the function that lists a suite's cases; `settings` are those of :class:`Suite`."""

    def decorate(cases: Callable[[Namespace], list[Case]]) -> Callable[[Namespace], list[Case]]:
        SUITES[name] = Suite(cases, **settings)
        return cases

    return decorate


def random_inputs(shapes: Sequence[tuple[int, ...]], args: Namespace) -> list[Tensor]:
    """Normal leaf tensors that require gradients, the same for every workload.

    Matrices (D, C) are scaled by C^-0.5, so that products preserve magnitudes.
    """
    generator = torch.Generator().manual_seed(args.seed)
    leaves = []
    for shape in shapes:
        x = torch.randn(shape, generator=generator)
        if len(shape) == 2:
            x *= shape[1] ** -0.5
        leaves.append(x.to(args.device, args.dtype).requires_grad_())
    return leaves


def random_workload(
    call: Callable, shapes: Sequence[tuple[int, ...]], args: Namespace, *more: Any
) -> Workload:
    """A function or module called with :func:`random_inputs` and more arguments."""
    if isinstance(call, nn.Module):
        call = call.to(args.device, args.dtype)
    return Workload(call, (*random_inputs(shapes, args), *more))


def num_heads(channels: int, width: int) -> int:
    """The number of heads of about this width that divides the channels."""
    most = max(channels // width, 1)
    return next(heads for heads in range(most, 0, -1) if channels % heads == 0)
