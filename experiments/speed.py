"""Time training iterations of a table's rows in turn, so that a busy machine slows all of them."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from statistics import median

from experiments.rows import Row, Table
from experiments.run import cpu_name


def time_rows(
    tables: Sequence[Table], rounds: int, path: Path, only: Sequence[str] = ()
) -> Iterator[str]:
    """Time training iterations of every trained row on one thread, and write the seconds.

    Args:
        tables: the tables to time; `path` keeps the others.
        rounds: timed iterations per row, after one warm-up.
        path: JSON, table -> seconds -> row -> seconds of every round.
        only: names of the rows to time; nothing is written then.

    Yields:
        A line for each row, with its median.
    """
    import torch

    torch.set_num_threads(1)
    record = json.loads(path.read_text()) if path.exists() else {}
    for table in tables:
        rows = [row for row in table.rows if row.teacher is None]
        steps = {row.name: training_step(row) for row in rows if not only or row.name in only}
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(rounds + 1):
            for name, step in steps.items():
                start = time.perf_counter()
                step()
                seconds[name].append(time.perf_counter() - start)
        record[table.name] = {
            'command': f'python -m experiments time {table.name} --rounds {rounds}',
            'date': str(date.today()),
            'machine': f'one thread of a CPU, {cpu_name()}',
            'torch': str(torch.__version__),
            'seconds': {name: [round(s, 4) for s in v[1:]] for name, v in seconds.items()},
        }
        for name, values in seconds.items():
            yield f'{table.name} {name}: {median(values[1:]):.3f} s'
    if not only:
        path.write_text(json.dumps(record, indent=1) + '\n')


def training_step(row: Row) -> Callable[[], object]:
    """A function that trains a row's model on the first batch of its data, the same each time."""
    import torch
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import MODELS, DefaultScope
    from mmengine.runner import Runner

    from mmca.config.reader import library_of, load_config

    cfg = load_config(row.config, list(row.model_options))
    loader = dict(cfg.train_dataloader, num_workers=0, persistent_workers=False)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(library_of(cfg, row.config)):
        model = MODELS.build(cfg.model).train()
        optim = build_optim_wrapper(model, cfg.optim_wrapper)
        batch = next(iter(Runner.build_dataloader(loader, seed=0)))
    return lambda: model.train_step(batch, optim)
