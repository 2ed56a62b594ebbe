"""mmca export: its output, its files and its exit status."""

import pytest
import torch

from mmca.cli.main import main
from mmca.export import model
from tests.helpers import needs_new_torch


@needs_new_torch
def test_a_torch_program(seg, tmp_path, out):
    file = tmp_path / 'a.pt2'
    argv = ['export', seg.config, seg.checkpoint, '--to', 'torch', '--size', '32', '48']
    images = [seg.images / f'{name}.jpg' for name in '01']
    text = out(*argv, '--out', file, '--images', *images)
    assert 'backbone, neck, decode_head, ' in text
    assert 'images -> logits, labels\n' in text
    assert text.count('1 x 32 x 48 ') == 2
    assert text.endswith(f'wrote {file}\n')
    assert file.is_file()


@needs_new_torch
def test_a_difference_keeps_the_former_file(det, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(model, 'TOLERANCES', {torch.float32: -1.0})
    out = tmp_path / 'a.pt2'
    out.write_text('former')
    argv = ['export', det.config, det.checkpoint, '--to', 'torch', '--size', '32', '32']
    assert main([*argv, '--batch-size', '1', '--out', str(out)]) == 1
    text = capsys.readouterr().out
    assert 'not exported: rpn_head, roi_head\n' in text
    assert text.rstrip().endswith(f'{out} was not written')
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [('a.pt2', 'former')]


@needs_new_torch
@pytest.mark.slow
def test_an_onnx_file_in_half_precision(seg, tmp_path, out):
    for name in ('onnx', 'onnxscript', 'onnxruntime'):
        onnxruntime = pytest.importorskip(name)
    argv = ['export', seg.config, seg.checkpoint, '--size', '32', '48', '--half']
    text = out(*argv, '--out', tmp_path / 'a.onnx')
    assert ', opset ' in text
    assert 'matrix products for FFTs' in text
    (images,) = onnxruntime.InferenceSession(tmp_path / 'a.onnx').get_inputs()
    assert images.type == 'tensor(float16)'


@needs_new_torch
@pytest.mark.slow
def test_an_onnx_file_of_a_detector(det, tmp_path, out):
    for name in ('onnx', 'onnxscript', 'onnxruntime'):
        pytest.importorskip(name)
    argv = ['export', det.config, det.checkpoint, '--size', 32, 64, '--out', tmp_path / 'a.onnx']
    text = out(*argv)
    assert 'images -> boxes, scores, labels, masks\n' in text
    assert 'same objects' in text
    assert text.count('1 x 32 x 64 ') == 1
    assert 'not exported' not in text
    text = out(*argv, '--feature-maps', '--batch-size', 2)
    assert 'images -> stride_4, ' in text
    assert 'not exported: rpn_head, roi_head\n' in text


def test_the_suffix_must_suit_the_format(fail, seg, tmp_path):
    argv = ('export', seg.config, seg.checkpoint, '--to', 'torch', '--out', tmp_path / 'a.onnx')
    assert 'with --to torch it must end in .pt2' in fail(*argv)
