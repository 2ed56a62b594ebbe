"""Whether workloads that must agree do: outputs and gradients of ours against the baseline."""

import copy
from argparse import Namespace
from math import isnan

import torch
from torch import Tensor, nn

from benchmarks.cases import Case, Workload
from benchmarks.measurement import differentiable, output_grads
from mmca.checkpoint.key_mapping import to_original_names

# Largest difference allowed from the baseline in float64, relative to the largest magnitude of the
# same tensor. (At 200 x 336, the circulant baseline's own float32 error is 9e-4, ours 5e-5.)
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-3}


class DisagreementError(Exception):
    """Two workloads that must agree do not."""


def check(case: Case, args: Namespace) -> list[dict]:
    """Compare outputs and gradients of the workloads that must agree, in training mode.

    The reference is the baseline in float64. Ours must match it in float64, which separates a
    wrong formula from rounding, and in float32 where that is the dtype that is timed; there the
    baseline's own float32 error is allowed, if it is larger than the tolerance.

    Returns:
        For each pair and dtype the largest relative error and the tensor that has it.

    Raises:
        DisagreementError: an error above `TOLERANCES`.
    """
    workloads, records = case.build(args.seed) if case.same else {}, []
    for ours, baseline in case.same:
        expected = _results(workloads[baseline], torch.float64, args.seed)
        for dtype in dict.fromkeys([torch.float64, args.dtype]):
            if dtype not in TOLERANCES:
                continue
            found = _results(workloads[ours], dtype, args.seed)
            errors = {name: relative_error(found[name], expected[name]) for name in expected}
            worst = max(errors, key=errors.get)
            label, allowed = str(dtype).removeprefix('torch.'), TOLERANCES[dtype]
            if errors[worst] > allowed and dtype != torch.float64:
                # Sharp attention on a large grid amplifies every rounding error.
                own = _results(workloads[baseline], dtype, args.seed)
                allowed = max(allowed, relative_error(own[worst], expected[worst]))
            if errors[worst] > allowed:
                raise DisagreementError(
                    f'{case.name}: {ours} and {baseline} differ by {errors[worst]:.1e} of the '
                    f'largest magnitude in the {worst} ({label}, allowed {allowed:.0e})'
                )
            record = {'ours': ours, 'baseline': baseline, 'dtype': label}
            records.append(record | {'error': errors[worst], 'in': worst})
    return records


def _results(workload: Workload, dtype: torch.dtype, seed: int) -> dict[str, Tensor]:
    """Outputs and all gradients in a dtype; the workload itself is not changed."""
    call, gradients = workload.call, {}
    inputs = [
        x.detach().to(dtype).requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x
        for x in (workload.inputs if workload.probe is None else workload.probe)
    ]
    if isinstance(call, nn.Module):
        call = copy.deepcopy(call).to(dtype)
        call.train()  # which returns None in mmdet's ResNet and Swin
    outputs = differentiable(call(*inputs))
    torch.autograd.backward(outputs, output_grads(outputs, seed))
    if isinstance(call, nn.Module):
        gradients, _ = to_original_names({n: p.grad for n, p in call.named_parameters()})
    for i, x in enumerate(inputs):
        if isinstance(x, Tensor) and x.requires_grad:
            gradients[f'input {i}'] = x.grad
    named = {f'gradient of {name}': grad for name, grad in gradients.items()}
    return {f'output {i}': x.detach() for i, x in enumerate(outputs)} | named


def relative_error(found: Tensor, expected: Tensor) -> float:
    """The largest difference over the largest magnitude; infinity for NaN or another shape."""
    if found.shape != expected.shape:
        return float('inf')
    error = ((found - expected).abs().max() / expected.abs().max().clamp_min(1e-300)).item()
    return float('inf') if isnan(error) else error
