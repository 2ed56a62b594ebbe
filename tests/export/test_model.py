"""Exported files compute what the library does, at any size."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from mmca.errors import InputError
from mmca.export import export_model
from mmca.export.graph import ExportGraph
from mmca.export.model import reference_outputs
from mmca.inference import Predictor
from tests.helpers import CONFIGS, needs_new_torch
from tests.inference.trained import SLIDE, noise, write_checkpoint

UPERNET = f"""
_base_ = {str(CONFIGS / 'ade20k/upernet_ca_swin_t.py')!r}
model = dict(
    data_preprocessor=dict(bgr_to_rgb=False),
    backbone=dict(_delete_=True, type='mmca.CASwin', attn='LLLS', arch=dict(
        embed_dims=8, depths=(1, 1, 1, 2), num_heads=(1, 1, 1, 1), window_size=2)),
    decode_head=dict(in_channels=[8, 16, 32, 64], channels=8),
    auxiliary_head=dict(in_channels=32, channels=8))
"""

FASTER_RCNN = """
_base_ = {base!r}
model = dict(type='FasterRCNN', roi_head=dict(
    bbox_head=dict(reg_class_agnostic=True), mask_roi_extractor=None, mask_head=None))
"""
RETINANET = f"""
_base_ = {str(CONFIGS / 'coco/retinanet_ca_deit_t.py')!r}
model = dict(
    backbone=dict(_delete_=True, type='mmca.CADeiT', arch=dict(
        embed_dims=16, depth=2, num_heads=2, mlp_ratio=2)),
    neck=dict(in_channels=16, out_channels=16),
    bbox_head=dict(in_channels=16, feat_channels=16, stacked_convs=1),
    test_cfg=dict(nms_pre=100, max_per_img=40))
"""


@pytest.fixture(scope='module')
def upernet(tmp_path_factory):
    """UPerNet on a Swin with shifted windows and BGR input."""
    folder = tmp_path_factory.mktemp('swin')
    config = folder / 'swin.py'
    config.write_text(UPERNET)
    return Predictor(config, write_checkpoint(config, 0.1), 'cpu')


@pytest.fixture(scope='module', params=['Mask R-CNN', 'Faster R-CNN', 'RetinaNet'])
def whole(request, det, detector, tmp_path_factory):
    """Each kind of detector that is exported whole."""
    if request.param == 'Mask R-CNN':
        return detector
    config = tmp_path_factory.mktemp('whole') / 'tiny.py'
    texts = {'Faster R-CNN': FASTER_RCNN.format(base=det.config), 'RetinaNet': RETINANET}
    config.write_text(texts[request.param])
    return Predictor(config, write_checkpoint(config, 0.06), 'cpu')


@pytest.fixture
def onnxruntime():
    """ONNX Runtime, if everything that `--to onnx` needs is installed."""
    return [pytest.importorskip(name) for name in ('onnx', 'onnxscript', 'onnxruntime')][-1]


@pytest.mark.parametrize('name', ['segmentor', 'detector', 'upernet'])
@pytest.mark.parametrize('shape', [(1, 3, 64, 96), (2, 3, 45, 70)])
def test_the_graph_includes_the_preprocessor(name, shape, request):
    """Channel order, normalization and padding; in UPerNet also pooling, at sizes 2 and 3."""
    predictor = request.getfixturevalue(name)
    graph = ExportGraph(predictor)
    images = torch.randint(0, 256, shape).float()
    with torch.no_grad():
        found = graph(images)
    expected = reference_outputs(predictor, list(images.flip(1)))
    assert len(found) == len(expected) == len(graph.outputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@needs_new_torch
@pytest.mark.parametrize('shape', [(64, 96), (45, 70)])
def test_a_whole_detector_predicts_as_mmdet_does(whole, shape):
    images = torch.from_numpy(noise(0, shape)).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        found = ExportGraph(whole, whole=True)(images)
    expected = reference_outputs(whole, list(images.flip(1)), whole=True)
    assert len(expected[0]) > 10
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@needs_new_torch
def test_a_whole_detector_may_find_nothing(whole):
    strict = copy.copy(whole)
    strict.model = copy.deepcopy(whole.model)
    head = 'roi_head' if hasattr(strict.model, 'roi_head') else 'bbox_head'
    getattr(strict.model, head).test_cfg.score_thr = 1.0
    images = torch.from_numpy(noise(0, (64, 96))).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        found = ExportGraph(strict, whole=True)(images)
    expected = reference_outputs(strict, list(images.flip(1)), whole=True)
    assert [one.shape for one in found] == [one.shape for one in expected]
    assert len(found[0]) == 0


@needs_new_torch
@pytest.mark.slow
def test_an_onnx_file_with_a_fixed_size(segmentor, onnxruntime, tmp_path):
    import onnx

    path = tmp_path / 'a.onnx'
    report = export_model(segmentor, path, size=(32, 40), batch_size=1)
    assert report.passed
    assert [one.shape for one in report.comparisons] == [(1, 32, 40)]
    assert report.comparisons[0].same > 0.999
    assert report.size == path.stat().st_size
    assert report.flops.exported_dft > report.flops.dft > 0
    assert report.outputs == ('logits', 'labels')
    model = onnx.load(path)
    assert not {'DFT', 'STFT'} & {node.op_type for node in model.graph.node}
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata['input'] == 'images (batch, 3, height, width), RGB, 0 to 255, float32'
    assert tuple(json.loads(metadata['classes'])) == segmentor.names
    assert json.loads(metadata['mean']) == pytest.approx([123.675, 116.28, 103.53])
    session = onnxruntime.InferenceSession(path)
    assert [one.shape for one in session.get_outputs()] == [[1, 150, 32, 40], [1, 32, 40]]
    image = noise(5, (32, 40))
    bgr = torch.from_numpy(image).permute(2, 0, 1)
    (labels,) = session.run(['labels'], {'images': bgr.flip(0)[None].float().numpy()})
    _, expected = reference_outputs(segmentor, [bgr])
    assert (labels == expected.numpy()).mean() > 0.999


@needs_new_torch
@pytest.mark.slow
def test_a_torch_program_of_a_detector(detector, tmp_path):
    path = tmp_path / 'a.pt2'
    report = export_model(detector, path, 'torch', size=(64, 96))
    assert report.passed
    assert report.opset is None
    assert report.contents == ('backbone', 'neck')
    assert report.left_out == ('rpn_head', 'roi_head')
    assert [one.shape for one in report.comparisons] == [(1, 64, 96), (2, 64, 96), (3, 64, 96)]
    assert report.outputs == tuple(f'stride_{stride}' for stride in (4, 8, 16, 32, 64))
    extra = {'strides.txt': ''}
    program = torch.export.load(path, extra_files=extra).module()
    assert json.loads(extra['strides.txt']) == [4, 8, 16, 32, 64]
    assert program(torch.zeros(1, 3, 64, 96))[0].shape[2:] == (16, 24)


@needs_new_torch
@pytest.mark.slow
def test_an_onnx_file_for_any_size(upernet, onnxruntime, tmp_path):
    sizes = [(32, 32), (64, 35), (97, 130)]
    images = [noise(seed, size) for seed, size in enumerate(sizes)]
    path = tmp_path / 'a.onnx'
    report = export_model(upernet, path, images=images)
    assert report.passed
    assert [one.shape[1:] for one in report.comparisons] == sizes
    session = onnxruntime.InferenceSession(path)
    assert session.get_inputs()[0].shape == ['batch', 3, 'height', 'width']
    assert len(session.run(None, {'images': np.zeros((3, 3, 64, 70), np.float32)})[0]) == 3


@needs_new_torch
@pytest.mark.slow
@pytest.mark.parametrize('whole', ['Mask R-CNN', 'RetinaNet'], indirect=True)
def test_an_onnx_file_of_a_whole_detector(whole, onnxruntime, tmp_path):
    import onnx

    images = [noise(0, (64, 96)), noise(1, (45, 130))]
    path = tmp_path / 'a.onnx'
    report = export_model(whole, path, images=images)
    assert report.passed
    assert report.unshared == 0
    assert report.left_out == ()
    assert all(one.objects > 10 for one in report.comparisons)
    domains = {node.domain for node in onnx.load(path).graph.node}
    assert domains <= {'', 'pkg.onnxscript.torch_lib', 'pkg.onnxscript.torch_lib.common'}
    session = onnxruntime.InferenceSession(path)
    names = [one.name for one in session.get_outputs()]
    assert names == ['boxes', 'scores', 'labels', 'masks'][: len(names)]
    for image in images:
        bgr = torch.from_numpy(image).permute(2, 0, 1).float()
        found = session.run(None, {'images': bgr.flip(0)[None].numpy()})
        for one, other in zip(found, reference_outputs(whole, [bgr], whole=True), strict=True):
            torch.testing.assert_close(torch.from_numpy(one), other, rtol=1e-4, atol=1e-4)
    assert len(session.run(None, {'images': np.full((1, 3, 40, 40), 50, np.float32)})) == len(names)


@needs_new_torch
@pytest.mark.slow
def test_a_torch_program_for_any_size(segmentor, tmp_path):
    images = [noise(0, (64, 35)), noise(1, (97, 130))]
    report = export_model(segmentor, tmp_path / 'a.pt2', 'torch', images=images)
    assert report.passed
    assert [one.shape for one in report.comparisons] == [(1, 64, 35), (1, 97, 130)]


def test_an_older_torch_is_named(segmentor, tmp_path, monkeypatch):
    monkeypatch.setattr('mmca.export.model.TORCH', (99, 0))
    with pytest.raises(InputError, match=r'needs torch 99\.0 or newer, not'):
        export_model(segmentor, tmp_path / 'a.onnx')


@needs_new_torch
def test_refuses_what_cannot_be_exported(seg, segmentor, detector, tmp_path):
    sliding = Predictor(seg.config, seg.checkpoint, 'cpu', SLIDE)
    branching = copy.copy(detector)
    branching.model = copy.deepcopy(detector.model)
    branching.model.neck = Branching()
    out = tmp_path / 'a.pt2'
    for predictor, path, options, message in [
        (sliding, out, {}, r"model\.test_cfg\.mode is 'slide'"),
        (segmentor, out, {'images': ['nowhere.jpg']}, r'no such image: nowhere\.jpg'),
        (segmentor, 'nowhere/a.pt2', {}, 'no such folder: nowhere'),
        (segmentor, out, {'size': (8, 64)}, 'both sides must be at least 32, got 8 x 64'),
        (branching, out, {'size': (32, 32)}, r'^torch cannot export this model: [^\n]*$'),
    ]:
        with pytest.raises(InputError, match=message):
            export_model(predictor, path, 'torch', **options)
    assert not list(tmp_path.iterdir())


@needs_new_torch
def test_refuses_heads_that_are_not_restated(det, detector, tmp_path):
    soft = 'model.test_cfg.rcnn.nms.type=soft_nms'
    soft = Predictor(det.config, det.checkpoint, 'cpu', [soft])
    other = copy.copy(detector)
    other.model = copy.deepcopy(detector.model)
    other.model.roi_head = nn.Identity()
    for predictor, batch_size, message in [
        (soft, None, r'its NMS is .*soft_nms.*; add --feature-maps'),
        (other, None, r'cannot export all of MaskRCNN: its RoI head is Identity, not StandardRoI'),
        (detector, 2, 'one image at a time, not 2; to export only backbone and neck'),
    ]:
        with pytest.raises(InputError, match=message):
            export_model(predictor, tmp_path / 'a.onnx', batch_size=batch_size)


class Branching(nn.Module):
    """A neck that branches on values, which torch.export refuses."""

    def forward(self, maps):
        return maps if maps[0].sum() > 0 else maps[:1]
