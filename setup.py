"""Copy configs and tools into mmca/.mim, where OpenMMLab's tools look for them."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
PARTS = (
    'configs/**/*.py',
    'configs/**/metafile.yml',
    'tools/train.py',
    'tools/test.py',
    'tools/dist*.sh',
    'model-index.yml',
)


class BuildWithConfigs(build_py):
    """Copy them into a wheel; an editable install uses those of the checkout."""

    def run(self) -> None:
        """Build the package."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / 'mmca' / '.mim'
        shutil.rmtree(target, ignore_errors=True)
        for path in (path for part in PARTS for path in ROOT.glob(part)):
            copy = target / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)


setup(cmdclass={'build_py': BuildWithConfigs})
