"""Measure what docs/time.png and docs/scaling.png show: `python -m docs.scripts.measure_times`.

Writes docs/figures/time.json and docs/figures/scaling.json: seconds of the processor, the least of
several rounds in which all networks run in turn. Processor time and the least, since these depend
least on what else the machine does.
"""

import json
import sys
import time
from argparse import Namespace
from datetime import date
from pathlib import Path

import torch

from benchmarks.cases import Workload
from benchmarks.layers import layer_cases
from benchmarks.measurement import MODES, execute, prepare
from benchmarks.models import build_backbone
from experiments.run import cpu_name

OUT = Path(__file__).resolve().parents[1] / 'figures'
MIXTURES = 'K', 'CCCCCKKKKKKK', 'X', 'WWWWWKKKKKKK', 'WWKWWKWWKWWK', 'SCCSSSSSSSSS', 'L'
BACKBONES = {  # label -> name, see benchmarks.models.build_backbone
    'DeiT-T': 'deit_t',
    'CA-DeiT-T': 'ca_deit_t',
    'CA-DeiT-T, d = 64': 'deit_t@C',
    **{mixture: f'deit_t@{mixture}' for mixture in MIXTURES},
}
ROUNDS = {224: 20, 512: 8, 1024: 4, 1536: 3}  # image side in pixels -> rounds
SIDES = (56, 112, 224, 512)  # of the grids of single layers
ARGS = Namespace(
    amp=False,
    device=torch.device('cpu'),
    dtype=torch.float32,
    seed=0,
    size=[(1, side, side, 64) for side in SIDES],
    softmax_tokens=12544,
)


def measure(workloads: dict[str, Workload], mode: str, rounds: int) -> dict[str, float]:
    """Least seconds by workload, forward or as a training step, after a round of warm-up."""
    seconds = dict.fromkeys(workloads, float('inf'))
    for _ in range(rounds + 1):
        for name, workload in workloads.items():
            prepare(workload, mode)
            start = time.process_time()
            outputs = execute(workload, mode, ARGS)
            seconds[name] = min(seconds[name], time.process_time() - start)
            del outputs
    return {name: round(least, 5) for name, least in seconds.items()}


def backbone_times() -> dict[int, dict[str, float]]:
    """Image side in pixels -> backbone -> seconds of one forward pass of one image."""
    seconds = {}
    for side, rounds in ROUNDS.items():
        image = (torch.randn(1, 3, side, side),)
        models = {label: Workload(build_backbone(name), image) for label, name in BACKBONES.items()}
        seconds[side] = measure(models, 'forward', rounds)
    return seconds


def layer_times() -> dict[str, dict[int, dict[str, float]]]:
    """'forward' or 'step' -> side of the grid -> attention -> seconds of one layer."""
    seconds = {mode: {} for mode in MODES}
    for case, side in zip(layer_cases(ARGS), SIDES, strict=True):
        workloads = {n: w for n, w in case.build(ARGS.seed).items() if not n.startswith('mmdet')}
        for mode in MODES:
            seconds[mode][side] = measure(workloads, mode, 3)
    return seconds


if __name__ == '__main__':
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for name, times in (('time', backbone_times), ('scaling', layer_times)):
        if name in (sys.argv[1:] or [name]):
            record = {
                'command': f'python -m docs.scripts.measure_times {name}',
                'date': str(date.today()),
                'machine': f'one thread of a CPU, {cpu_name()}',
                'torch': torch.__version__,
                'seconds': times(),
            }
            (OUT / f'{name}.json').write_text(json.dumps(record, indent=1) + '\n')
