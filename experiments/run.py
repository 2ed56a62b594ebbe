"""Run the missing runs of tables; each leaves its log in docs/results as soon as it ends."""

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from random import Random
from threading import Lock

from experiments.rows import CA_DEIT, CONVERTED, SCRATCH, TABLES, Row, Table, Transfer
from mmca.analysis.logs import read_scalars
from mmca.errors import InputError

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / 'docs' / 'results'
SMALL = ('--side', '224', '--workers', '1')
INIT = 'model.backbone.init_cfg'
DATA = os.environ.get('MMCA_DATA_ROOT', 'data')
DIGITS = 5  # significant digits in logs


class Lab:
    """Where experiments run, and from which weights and images.

    Args:
        work: folder for checkpoints and what the runs print.
        teacher: ImageNet weights of DeiT-T.
        images: folders of unlabeled images for transfers.
        results: folder of the logs.
    """

    def __init__(
        self, work: Path, teacher: str, images: Sequence[str], results: Path = RESULTS
    ) -> None:
        self.work, self.teacher, self.images, self.results = work, teacher, images, results
        self._locks: dict[str, Lock] = {}

    def missing(self, tables: Sequence[Table], only: Sequence[str]) -> Iterator[tuple]:
        """(table, row, seed) of runs without a log, first seeds first."""
        for seed in range(max(table.seeds for table in tables)):
            for table in tables:
                for row in table.rows if seed < table.seeds else ():
                    wanted = row.table is None and (not only or row.name in only)
                    if wanted and not self.log_of(table, row, seed).exists():
                        yield table, row, seed

    def log_of(self, table: Table, row: Row, seed: int) -> Path:
        """The file that a run leaves."""
        return self.results / table.name / f'{row.name}_seed{seed}.json'

    def run(self, table: Table, row: Row, seed: int) -> None:
        """Train or resume one row, and keep its log."""
        if row.teacher is not None:
            self.copy_teacher(table, row, seed)
            return
        start = self.start_of(row)
        options = [f'randomness.seed={seed}', 'default_hooks.checkpoint.max_keep_ckpts=1']
        options += row.model_options
        if start is not None:
            options += [f'{INIT}.type=Pretrained', f'{INIT}.checkpoint={start}']
        work = self.work / table.name / f'{row.name}_seed{seed}'
        argv = ['train', row.config, '--work-dir', str(work), '--resume', '--cfg-options', *options]
        self.call(argv, work)
        last = Path((work / 'last_checkpoint').read_text())
        self.keep(self.log_of(table, row, seed), argv, read_scalars(work), last)

    def copy_teacher(self, table: Table, row: Row, seed: int) -> None:
        """Transfer a model that was trained with labels to another backbone, and test that."""
        other, _, name = row.teacher.partition('/')
        (taught,) = (taught for taught in TABLES[other].rows if taught.name == name)
        trained = self.work / other / f'{name}_seed{seed}'
        with self._locks.setdefault(trained.name, Lock()):
            log = self.log_of(TABLES[other], taught, seed)
            # Logs are in git, weights are not.
            if not (log.exists() and any(trained.glob('iter_*.pth'))):
                self.run(TABLES[other], taught, seed)
        (teacher,) = trained.glob('iter_*.pth')
        work = self.work / table.name / f'{row.name}_seed{seed}'
        images = f'{DATA}/camvid/images/training'
        out, whole = work.with_suffix('.pth'), work.with_name(f'{work.name}_model.pth')
        argv = ['distill', row.config, str(teacher), '--images', images, '--out', str(out)]
        argv += ['--model-out', str(whole), '--work-dir', str(work), *SMALL, '--iters', '400']
        argv += ['--seed', str(seed)]
        self.call([*argv, *self._resumed(work)], work)
        tested = work.with_name(f'{work.name}_test')
        self.call(['test', row.config, str(whole), '--work-dir', str(tested)], tested)
        log = [*read_scalars(work), self.tested(tested)]
        self.keep(self.log_of(table, row, seed), argv, log, whole)

    @staticmethod
    def tested(work: Path) -> dict:
        """The figures of the last `mmca test` in a folder."""
        return json.loads(sorted(work.glob('*/*.json'))[-1].read_text())

    @staticmethod
    def _resumed(work: Path) -> list[str]:
        return ['--resume'] if (work / 'last_checkpoint').exists() else []

    def start_of(self, row: Row) -> str | None:
        """The file of weights that a row starts from; creates it if needed."""
        if row.start == SCRATCH:
            return None
        if row.start == CONVERTED:
            return self.teacher
        return str(self.transfer(row.start))

    def transfer(self, transfer: Transfer) -> Path:
        """The result of a transfer; runs or resumes the transfer if needed, and keeps its log."""
        work = self.work / 'transfers' / transfer.name
        out = work.with_suffix('.pth')
        with self._locks.setdefault(transfer.name, Lock()):
            if out.exists():
                return out
            images = [f'{DATA}/{transfer.folder}'] if transfer.folder else self.images
            if transfer.images is not None:
                images = [str(self._choose(transfer.images))]
            argv = ['distill', CA_DEIT, self.teacher, '--images', *images, '--out', str(out)]
            argv += ['--work-dir', str(work), *SMALL, *transfer.flags]
            argv += ['--cfg-options', *transfer.options] if transfer.options else []
            self.call([*argv, *self._resumed(work)], work)
            log = read_scalars(work)
            self.keep(self.results / 'transfers' / f'{transfer.name}.json', argv, log, out)
        return out

    def _choose(self, number: int) -> Path:
        """A folder with links to some of the images, the same ones each time."""
        from mmca.io import find_images

        folder = self.work / f'images_{number}'
        if not folder.exists():
            folder.mkdir(parents=True)
            files = [file for images in self.images for file in find_images(images)]
            for file in Random(0).sample(files, number):
                (folder / file.name).symlink_to(file.resolve())
        return folder

    def call(self, argv: Sequence[str], work: Path) -> None:
        """Run a command of mmca on one thread; what it prints goes to `work`.log.

        Raises:
            InputError: it failed.
        """
        log = work.with_suffix('.log')
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open('ab') as file:
            done = subprocess.run(
                [sys.executable, '-m', 'mmca', *argv],
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, 'OMP_NUM_THREADS': '1'},
            )
        if done.returncode:
            raise InputError(f'mmca {argv[0]} ended with {done.returncode}: see {log}')

    def keep(self, path: Path, argv: Sequence[str], log: list[dict], weights: Path) -> None:
        """Write the record of a run.

        Args:
            path: the file.
            argv: the command, whose folders on this machine are left out.
            log: the entries.
            weights: the run's last checkpoint; the record has its hash.
        """
        import torch

        command = ' '.join(['mmca', *argv]).replace(str(self.work), 'work_dirs/experiments')
        command = command.replace(DATA, 'data')
        for place in (self.teacher, *self.images):
            command = command.replace(place, Path(place).name)

        commit = subprocess.check_output(['git', 'rev-parse', 'HEAD'], cwd=ROOT, text=True)
        record = {
            'command': command,
            'commit': commit.strip(),
            'date': str(date.today()),
            'machine': f'one thread of a CPU, {cpu_name()}',
            'torch': str(torch.__version__),
            'sha256': hashlib.sha256(weights.read_bytes()).hexdigest(),
            'log': log,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = ',\n'.join(f'  {json.dumps(entry)}' for entry in rounded(record.pop('log')))
        head = json.dumps(record, indent=1)[:-2]
        path.write_text(f'{head},\n "log": [\n{lines}\n ]\n}}\n')


def run_transfers(lab: Lab, transfers: Sequence[Transfer], jobs: int) -> None:
    """Run transfers without results, `jobs` at a time."""
    with ThreadPoolExecutor(jobs) as pool:
        for out in pool.map(lab.transfer, transfers):
            print(out, flush=True)


def run_missing(lab: Lab, tables: Sequence[Table], only: Sequence[str], jobs: int) -> None:
    """Run the rows of tables without logs, `jobs` at a time; `only` some rows, if it names any."""
    runs = list(lab.missing(tables, only))
    print(f'{len(runs)} runs to do, {jobs} at a time', flush=True)

    def run(job: tuple[Table, Row, int]) -> None:
        table, row, seed = job
        lab.run(table, row, seed)
        print(f'{table.name}: {row.label}, seed {seed}', flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        for _ in pool.map(run, runs):
            pass


def rounded(log: list[dict]) -> list[dict]:
    """The entries of a log, rounded to `DIGITS` significant digits."""
    return [
        {key: float(f'{v:.{DIGITS}g}') if isinstance(v, float) else v for key, v in entry.items()}
        for entry in log
    ]


def cpu_name() -> str:
    """The processor's own name."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
        return next(line.partition(':')[2].strip() for line in lines if 'model name' in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
