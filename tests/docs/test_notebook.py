"""The notebook of docs/ runs from its first cell to its last, as users would run it."""

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
    """All that a cell prints or shows as text."""
    parts = [output.get('text', '') for output in cell.outputs]
    parts += [output.get('data', {}).get('text/plain', '') for output in cell.outputs]
    return ''.join(parts)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    # `mmca` is the one of this environment, also where that is not activated.
    monkeypatch.setenv('PATH', f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}')
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    notebook = nbformat.read(ROOT / 'docs/afternoon.ipynb', 4)
    # A cell that hangs would hang forever: the longest takes 10 minutes on a quiet core.
    client = nbclient.NotebookClient(
        notebook, timeout=3000, resources={'metadata': {'path': tmp_path}}
    )
    client.execute()
    plot = next(cell for cell in notebook.cells if 'mmca plot' in cell.source)
    found = re.search(r'coco/bbox_mAP (\S+), coco/segm_mAP (\S+)', printed(plot))
    assert all(float(value) > 0.1 for value in found.groups())
    images = [
        output
        for cell in notebook.cells
        for output in cell.get('outputs', [])
        if 'image/png' in output.get('data', {}) or 'image/jpeg' in output.get('data', {})
    ]
    assert len(images) == 2  # curves and a prediction
    assert 'stride_4 (1, 256, 32, 40)' in printed(notebook.cells[-1])
