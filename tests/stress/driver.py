"""A process that runs many commands of mmca, so that torch is imported once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.helpers import ROOT

# What is printed goes to a file, by the descriptors, so that data workers' lines are in it too.
LOOP = """
import json, os, re, sys, tempfile, traceback
from mmca.cli.main import main
from tests.helpers import forget_mmengine

answers = os.fdopen(os.dup(1), 'w')
printed = tempfile.TemporaryFile()
for descriptor in (1, 2):
    os.dup2(printed.fileno(), descriptor)
for line in sys.stdin:
    folder, argv = json.loads(line)
    os.chdir(folder)
    sys.argv = ['mmca']
    printed.seek(0)
    printed.truncate()
    try:
        code = main(argv)
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    forget_mmengine()
    printed.seek(0)
    text = printed.read().decode(errors='replace')
    # Not getrusage: its peak is also that of the process that started this one.
    peak = int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) // 1024
    print(json.dumps([code, text, peak]), file=answers, flush=True)
"""


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        code: exit code; the signal, negative, where the process died.
        text: what was printed.
        megabytes: the peak of the process so far.
    """

    code: int
    text: str
    megabytes: int


class Driver:
    """Runs commands in one process; in a new one where that died."""

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None

    def run(self, argv: list[str], folder: Path = ROOT) -> Outcome:
        """Run `mmca ARGV` in a folder."""
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                [sys.executable, '-c', LOOP],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                cwd=ROOT,
                env={**os.environ, 'PYTHONPATH': str(ROOT), 'PYTHONUNBUFFERED': '1'},
            )
        self.process.stdin.write(json.dumps([str(folder), argv]) + '\n')
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        return Outcome(*json.loads(answer)) if answer else Outcome(self.process.wait(), '', 0)

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()
