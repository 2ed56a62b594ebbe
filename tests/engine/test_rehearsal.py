"""What would fail in the first validation fails before training."""

import pytest
import torch
from mmengine.config import Config

from mmca.engine import Runner
from mmca.engine.rehearsal import rehearse_validation
from tests.helpers import error_line
from tests.stress.good_data import write_config, write_good

FAULTS = {
    "val_evaluator['metric'] = 'segm'\nmodel['roi_head']['mask_head'] = None\n"
    "model['roi_head']['mask_roi_extractor'] = None": 'error: validation: KeyError: ',
    "val_evaluator['metric_items'] = ['mAP_99']": 'error: validation: KeyError: ',
    "default_hooks['checkpoint']['save_best'] = 'coco/bbox_map'": (
        'expects the metric coco/bbox_map, but the evaluator computes coco/bbox_mAP, '
    ),
    "custom_hooks = [dict(type='EarlyStoppingHook', monitor='bbox_mAP')]": (
        'EarlyStoppingHook expects the metric bbox_mAP, but'
    ),
    "steps[-1]['meta_keys'] = ('img_path', 'ori_shape', 'img_shape')": 'error: validation: ',
    "val_evaluator['outfile_prefix'] = '/dev/null/x/y'": 'CocoMetric cannot write to /dev/null/x',
    "val_evaluator = [dict(type='DumpResults', out_file_path='/dev/null/x.pkl')]": (
        'DumpResults cannot write to /dev/null'
    ),
    "default_hooks['checkpoint']['out_dir'] = '/dev/null/x'": 'CheckpointHook cannot write to',
    "param_scheduler = [dict(type='ReduceOnPlateauLR', monitor='mAP', by_epoch=True)]": (
        'ReduceOnPlateauLR expects the metric mAP, but'
    ),
    "visualizer = dict(vis_backends=[dict(type='TensorboardVisBackend')])": 'ImportError',
}


@pytest.mark.parametrize(('text', 'message'), FAULTS.items())
def test_a_validation_that_would_fail_is_refused(text, message, tmp_path, capsys):
    write_good(tmp_path, 'coco', 2)
    with pytest.raises(SystemExit) as caught:
        Runner.from_cfg(Config.fromfile(write_config(tmp_path, 'coco', text))).train()
    assert caught.value.code == 2
    assert message in error_line(capsys.readouterr().err)


def test_a_segmentors_folder_without_images_is_named(tmp_path, capsys):
    write_good(tmp_path, 'ade', 2)
    text = "train_dataloader['dataset']['img_suffix'] = '.tif'"
    config = write_config(tmp_path, 'ade', text)
    with pytest.raises(SystemExit, match='2'):
        Runner.from_cfg(Config.fromfile(config)).train()
    expected = f'error: no image named *.tif in {tmp_path}/images/train, {tmp_path}/maps/train; '
    assert error_line(capsys.readouterr().err).startswith(expected)


def test_an_epoch_without_iterations_is_refused(tmp_path, capsys):
    write_good(tmp_path, 'coco', 2)
    text = 'train_dataloader.update(batch_size=9, drop_last=True, batch_sampler=None)'
    with pytest.raises(SystemExit, match='2'):
        Runner.from_cfg(Config.fromfile(write_config(tmp_path, 'coco', text))).train()
    assert 'an epoch has no iteration: the 2 images' in error_line(capsys.readouterr().err)


@pytest.mark.parametrize('threshold', ['[0.5]', '0.5'])
def test_one_iou_threshold(threshold, tmp_path):
    write_good(tmp_path, 'coco', 2)
    text = f"val_evaluator.update(iou_thrs={threshold})\ntrain_cfg['val_interval'] = 1"
    runner = Runner.from_cfg(Config.fromfile(write_config(tmp_path, 'coco', text)))
    runner.train()
    scores = runner.message_hub.log_scalars
    assert scores['val/coco/bbox_mAP'].current() == scores['val/coco/bbox_mAP_50'].current() >= 0


def test_a_rehearsal_leaves_no_trace(tmp_path, capfd):
    write_good(tmp_path, 'coco', 3)
    text = """val_evaluator = [
        dict(type='CocoMetric', ann_file=root + '/test.json', outfile_prefix=root + '/results'),
        dict(type='DumpResults', out_file_path=root + '/results.pkl')]"""
    runner = Runner.from_cfg(Config.fromfile(write_config(tmp_path, 'coco', text)))
    files = {*tmp_path.iterdir()}
    runner.check()
    assert {*tmp_path.iterdir()} == files
    capfd.readouterr()
    state, model = torch.random.get_rng_state(), runner.model.train()
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rehearse_validation(runner)
    assert capfd.readouterr().out == ''
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.state_dict().items())
    assert model.training
    metric, dump = runner.val_loop.evaluator.metrics
    assert (metric.results, metric.img_ids, dump.results) == ([], None, [])
