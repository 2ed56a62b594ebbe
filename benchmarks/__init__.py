"""Benchmarks of mmca against baselines: `python -m benchmarks --help`.

- `cases.py`: what is compared (`Workload`, `Case`) and the registry of suites.
- `layers.py`, `models.py`, `variants.py`: the suites; each lists its cases and its flags.
- `baselines.py`: what ours is compared with.
- `agreement.py`, `measurement.py`, `memory.py`, `profiling.py`: what is measured.
- `report.py`: tables and JSON.
- `numerics.py`: the accuracy of float32 against float64.
- `training.py`: losses in float32, bfloat16 and float16.
"""

from benchmarks import layers, models, variants

__all__ = ['layers', 'models', 'variants']  # which register their suites
