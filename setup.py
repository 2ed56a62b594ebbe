"""Puts configs and tools into the package, where OpenMMLab's tools look: mmca/.mim."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
PARTS = (
    'configs/**/*.py',
    'configs/**/metafile.yml',
    'tools/*.py',
    'tools/*.sh',
    'model-index.yml',
)
CHECKOUT_ONLY = ('benchmark.py', 'error_study.py')  # they run benchmarks/, which is not shipped


class BuildWithConfigs(build_py):
    """Copies them when a wheel is built; an editable install uses the checkout's own."""

    def run(self) -> None:
        """Build the package."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / 'mmca' / '.mim'
        shutil.rmtree(target, ignore_errors=True)
        for path in (path for part in PARTS for path in ROOT.glob(part)):
            if path.name in CHECKOUT_ONLY:
                continue
            copy = target / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)


setup(cmdclass={'build_py': BuildWithConfigs})
