"""Jobs in forks of the test process: fresh state, a known exit code, and no second import."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from mmca.config.reader import load_config
from mmca.engine import Runner
from mmca.engine.runner import import_library
from tests.helpers import forget_mmengine

for _library in ('mmdet', 'mmseg'):  # once, before any fork
    import_library(_library)
    import_module(f'{_library}.models')


class Outcome(NamedTuple):
    """How a job ended: exit code (or minus the signal), output, and memory beyond the fork's."""

    code: int
    text: str
    megabytes: int

    @property
    def errors(self) -> list[str]:
        return [line for line in self.text.splitlines() if line.startswith('error: ')]

    @property
    def refused(self) -> bool:
        """Whether it ended in one line."""
        return self.code == 2 and len(self.errors) == 1 and 'Traceback' not in self.text


def resident() -> int:
    """Megabytes of this process that are in memory now."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') >> 20


def run(job: Callable[[], int | None], folder: Path) -> Outcome:
    """Run a job in a fork, in a folder."""
    with tempfile.TemporaryFile() as printed:
        gc.freeze()
        start = resident()
        pid = os.fork()
        if not pid:
            for descriptor in (1, 2):
                os.dup2(printed.fileno(), descriptor)
            # pytest's own streams would print to nowhere.
            sys.stdout, sys.stderr = (open(fd, 'w', buffering=1) for fd in (1, 2))  # noqa: SIM115
            forget_mmengine()
            os.chdir(folder)
            code: object = 1
            try:
                code = job()
            except SystemExit as error:
                code = error.code
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(int(code or 0))
        _, status, usage = os.wait4(pid, 0)
        printed.seek(0)
        text = printed.read().decode(errors='replace')
    return Outcome(os.waitstatus_to_exitcode(status), text, usage.ru_maxrss // 1024 - start)


def mmca(argv: list[str]) -> int:
    """Run `mmca ARGV`; train and test run the library's Runner, in this process."""
    from mmca.cli.main import guarded, main

    if argv[0] not in ('train', 'test'):
        return main(argv)
    tool, config, *words = argv
    os.environ['MMCA_TRACEBACK'] = '0'
    options = words[words.index('--cfg-options') + 1 :] if '--cfg-options' in words else []

    def job() -> int:
        runner = Runner.from_cfg(load_config(config, options))
        runner.train() if tool == 'train' else runner.test()
        return 0

    return guarded(job)
