"""docs/afternoon.ipynb runs from its first cell to its last, as in docs/ of a checkout."""

import os
import re
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT

nbformat = pytest.importorskip('nbformat', reason='needs requirements-notebook.txt')
nbclient = pytest.importorskip('nbclient', reason='needs requirements-notebook.txt')
pytest.importorskip('onnxruntime', reason='needs requirements-export.txt')


def printed(cell) -> str:
    """Everything a cell prints or shows as text."""
    outputs = cell.outputs
    return ''.join(o.get('text') or o.get('data', {}).get('text/plain', '') for o in outputs)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    # `mmca` and `python` of this environment, activated or not.
    monkeypatch.setenv('PATH', f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}')
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    (tmp_path / 'tools').symlink_to(ROOT / 'tools')
    (tmp_path / 'docs').mkdir()
    notebook = nbformat.read(ROOT / 'docs/afternoon.ipynb', 4)
    resources = {'metadata': {'path': tmp_path / 'docs'}}
    # The longest cell takes 10 minutes on a quiet core.
    nbclient.NotebookClient(notebook, timeout=3000, resources=resources).execute()
    plot = next(cell for cell in notebook.cells if 'mmca plot' in cell.source)
    found = re.search(r'coco/bbox_mAP (\S+), coco/segm_mAP (\S+)', printed(plot))
    assert all(float(value) > 0.1 for value in found.groups())
    outputs = [output for cell in notebook.cells for output in cell.get('outputs', [])]
    images = [o for o in outputs if {'image/png', 'image/jpeg'} & o.get('data', {}).keys()]
    assert len(images) == 2  # curves and a prediction
    assert re.search(r'masks \([1-9]\d*, 128, 160\)', printed(notebook.cells[-1]))
