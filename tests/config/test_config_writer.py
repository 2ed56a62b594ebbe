"""Recipes and the configs written from them."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, PARAM_SCHEDULERS, DefaultScope

from mmca.backbones import DeiT
from mmca.checkpoint import KNOWN
from mmca.config.config_writer import schedule, write
from mmca.config.dataset_info import inspect_folder
from mmca.config.models import build_on_meta
from mmca.config.recipe import choose
from mmca.distill.config import distill_config
from mmca.errors import InputError
from tests.config import folders
from tests.configs.table import demo_data
from tests.helpers import ROOT, empty_weights


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Write a config for a layout; returns config and recipe."""
    monkeypatch.chdir(tmp_path)

    def run(layout, **options):
        layout(Path('fruits'))
        recipe = choose(info := inspect_folder('fruits'), **{'device': 'cpu', **options})
        write(info, recipe, 'fruits.py')
        return Config.fromfile('fruits.py'), recipe

    return run


def test_a_detector_on_a_cpu(make):
    cfg, recipe = make(folders.as_roboflow)
    assert recipe.base == 'penn_fudan/maskrcnn_ca_pvt_t'
    assert recipe.epochs == cfg.train_cfg.max_epochs == 800  # 2,400 images, 3 of them different
    assert recipe.iterations == 2400
    assert cfg.model.roi_head.mask_head.num_classes == 2
    assert cfg.train_dataloader.dataset.pipeline[2].scale == (64, 48)
    loaders = cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader
    assert [loader.dataset.data_prefix.img for loader in loaders] == ['train', 'valid', 'test']
    assert cfg.test_evaluator.ann_file == 'fruits/test/_annotations.coco.json'
    assert cfg.optim_wrapper.optimizer.lr == 2.8e-4
    assert recipe.reasons['schedule'].startswith('800 epochs, 2400 iterations of 1 image: ')


def test_a_segmentor_on_a_cpu(make):
    cfg, recipe = make(folders.as_cityscapes)
    assert recipe.base == 'camvid/fpn_ca_pvt_t'
    dataset = cfg.train_dataloader.dataset
    assert dataset.data_prefix == dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train')
    assert (dataset.img_suffix, dataset.seg_map_suffix)[1] == '_gtFine_labelTrainIds.png'
    assert cfg.model.decode_head.num_classes == 2
    assert cfg.train_cfg.max_iters == recipe.iterations == 2400
    assert cfg.train_cfg.max_iters % cfg.train_cfg.val_interval == 0


@pytest.mark.parametrize('backbone', ['ca_pvt_t', 'ca_swin_t', 'ca_deit_t'])
@pytest.mark.parametrize('layout', [folders.as_coco, folders.as_ade])
def test_a_gpu_gets_the_published_recipe(layout, backbone, make):
    cfg, recipe = make(layout, device='cuda', backbone=backbone)
    assert recipe.base.startswith(('coco/', 'ade20k/'))
    published = Config.fromfile(f'{ROOT}/configs/{recipe.base}.py')
    assert cfg.train_pipeline == published.train_pipeline
    assert cfg.optim_wrapper == published.optim_wrapper
    assert cfg.auto_scale_lr.base_batch_size == 16


@pytest.mark.parametrize(('task', 'epoch'), [('labels', 1), ('boxes', 1), ('boxes', 7)])
def test_every_schedule_reaches_its_peak_rate(task, epoch):
    for epochs in range(1, 101):
        numbers = {'batch': 1, 'epochs': epochs, 'iterations': epochs * epoch}
        recipe = SimpleNamespace(**numbers, lr=1e-3, head_factor=1)
        rates = rates_of(schedule(SimpleNamespace(task=task), recipe), epochs * epoch, epoch)
        assert max(rates) == pytest.approx(1e-3), epochs


@pytest.mark.parametrize('iters', [1, 2, 5, 9, 10, 60])
def test_distillation_reaches_its_peak_rate(iters, tmp_path):
    (tmp_path / 'teacher.pth').write_bytes(empty_weights('swin_t'))
    model = dict(backbone=dict(type='mmca.CASwin', arch='tiny'))
    cfg = Config(dict(model=model, data_preprocessor=dict(mean=[0.0] * 3, std=[1.0] * 3)))
    cfg = distill_config(cfg, str(tmp_path / 'teacher.pth'), [], '', iters=iters, lr=1e-3)
    assert max(rates_of(cfg, iters)) == pytest.approx(1e-3)


def rates_of(cfg, iterations, epoch=1):
    """The learning rate of each iteration, by mmengine's own schedulers."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    schedulers = [
        PARAM_SCHEDULERS.build({**scheduler, 'optimizer': optimizer})
        for scheduler in cfg['param_scheduler']
    ]
    rates = []
    for iteration in range(1, iterations + 1):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            if not scheduler.by_epoch or iteration % epoch == 0:
                scheduler.step()
    return rates


@pytest.mark.parametrize(
    ('model', 'backbone'),
    [
        ('maskrcnn', 'ca_pvt_t'),
        ('cascade_maskrcnn', 'ca_swin_t'),
        ('fasterrcnn', 'ca_deit_t'),
        ('retinanet', 'ca_deit_t'),
    ],
)
def test_on_a_cpu_neck_and_heads_have_few_channels(model, backbone, make):
    cfg, recipe = make(folders.as_coco, model=model, backbone=backbone)
    with DefaultScope.overwrite_default_scope('mmdet'):
        detector = MODELS.build(cfg.model)
    wide = {
        path
        for path, module in detector.named_modules()
        if not path.startswith('backbone') and getattr(module, 'in_channels', None) == 256
    }
    assert not wide
    assert recipe.channels == cfg.model.neck.out_channels == 128
    optimizer = torch.optim.SGD(detector.parameters(), lr=0)
    batch = demo_data(cfg, 1, 64, 96)
    batch['data_samples'][0].gt_instances.labels.zero_()  # they have 80 classes
    log = detector.train_step(batch, OptimWrapper(optimizer))
    assert torch.isfinite(log['loss'])


def test_arguments_replace_choices(make):
    options = {'backbone': 'ca_swin_t', 'model': 'cascade_maskrcnn', 'size': (80, 64)}
    cfg, recipe = make(folders.as_coco, **options, epochs=7, batch_size=4)
    assert [head.num_classes for head in cfg.model.roi_head.bbox_head] == [2, 2, 2]
    assert cfg.model.backbone.type == 'mmca.CASwin'
    assert cfg.train_cfg.max_epochs == 7
    assert cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 4
    assert recipe.iterations == 7  # the last batch of an epoch counts
    assert cfg.optim_wrapper.optimizer.lr == 5.6e-4  # for a batch of one, 2.8e-4
    assert cfg.train_dataloader.dataset.pipeline[2].scale == (80, 64)


@pytest.mark.parametrize(
    ('size', 'train', 'test'),
    [
        ((480, 360), (320, 240), (480, 360)),
        ((1280, 960), (320, 240), (480, 360)),
        ((360, 270), (320, 240), (360, 270)),  # not enlarged
        ((64, 48), (64, 48), (64, 48)),
    ],
)
def test_segmentors_on_cpus_test_on_larger_images_than_they_train_on(size, train, test, make):
    make(folders.as_ade)
    info = replace(inspect_folder('fruits'), size=size)
    recipe = choose(info, device='cpu')
    assert (recipe.size, recipe.test_size) == (train, test)
    write(info, recipe, 'large.py')
    cfg = Config.fromfile('large.py')
    assert cfg.train_dataloader.dataset.pipeline[2].scale == train
    assert cfg.train_dataloader.dataset.pipeline[3].crop_size == train[::-1]
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.pipeline[1].scale == test
    assert choose(info, device='cpu', size=(100, 80)).test_size == (100, 80)


@pytest.mark.parametrize('pos_embed', [True, False])
def test_weights_choose_the_backbone_and_its_position_embedding(pos_embed, make):
    weights = {k: v for k, v in DeiT('tiny').state_dict().items() if pos_embed or k != 'pos_embed'}
    torch.save(weights, 'deit_tiny.pth')
    cfg, _ = make(folders.as_coco, weights='deit_tiny.pth')
    assert cfg.model.backbone.type == 'mmca.CADeiT'
    assert cfg.model.backbone.init_cfg.checkpoint == 'deit_tiny.pth'
    assert cfg.model.backbone.pos_embed is pos_embed
    options = {'head_dim': 'softmax', 'scale': 'paper'}
    assert cfg.model.backbone.attn_cfg == {'circulant': options}


def test_segmentors_with_weights_on_cpus_have_a_loss_of_iou(make, cache):
    (path := KNOWN['pvt_tiny'].path).parent.mkdir(parents=True)
    path.write_bytes(empty_weights('pvt_t'))
    cfg, _ = make(folders.as_ade, weights='pvt_tiny')
    losses = [loss.type for loss in cfg.model.decode_head.loss_decode]
    assert losses == ['CrossEntropyLoss', 'LovaszLoss']
    assert not choose(inspect_folder('fruits'), device='cpu').lovasz
    assert not choose(inspect_folder('fruits'), device='cuda', weights='pvt_tiny').lovasz


def test_a_backbone_with_weights_learns_slower_and_keeps_its_recipe(make, cache):
    (path := KNOWN['swin_tiny'].path).parent.mkdir(parents=True)
    path.write_bytes(empty_weights('swin_t'))
    cfg, _ = make(folders.as_coco, weights='swin_tiny', model='fasterrcnn')
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = build_on_meta(cfg.model)
        groups = build_optim_wrapper(model, cfg.optim_wrapper).param_groups
    found = {id(group['params'][0]): group for group in groups}
    for name, parameter in model.named_parameters():
        group = found[id(parameter)]
        assert group['lr'] == pytest.approx(1.4e-4 if 'backbone' in name else 4.2e-4), name
        if name.startswith('backbone'):  # Swin's recipe
            exempt = 'norm' in name or 'relative_position_bias_table' in name
            assert (group['weight_decay'] == 0) == exempt, name


@pytest.mark.parametrize(
    ('backbone', 'name', 'weights'),
    [
        (None, 'pvt_tiny', 'imagenet'),
        ('ca_swin_t', 'swin_tiny', 'imagenet'),
        ('ca_deit_t', 'ca_deit_tiny', 'imagenet'),
        (None, 'swin_tiny', 'swin_tiny'),
    ],
)
def test_weights_by_name(backbone, name, weights, make, cache):
    (path := KNOWN[name].path).parent.mkdir(parents=True)
    original = name.replace('tiny', 't')
    path.write_bytes(empty_weights(original))
    cfg, recipe = make(folders.as_coco, backbone=backbone, weights=weights)
    assert cfg.model.backbone.init_cfg == dict(type='Pretrained', checkpoint=name)
    assert recipe.base.endswith(f'_{original if original.startswith("ca_") else f"ca_{original}"}')
    assert recipe.reasons['start'] == name
    built = MODELS.build(cfg.model.backbone)  # as training does
    built.init_weights()
    assert not built.patch_embed1.proj.weight.any() if 'pvt' in name else built


@pytest.mark.parametrize('layout', [folders.as_one_folder, folders.as_voc, folders.as_scenes])
def test_a_single_folder_is_divided(layout, make):
    cfg, _ = make(layout)
    images = []
    with DefaultScope.overwrite_default_scope('mmseg'):
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            dataset = DATASETS.build({**loader.dataset, 'pipeline': []})
            images.append([dataset[index]['img_path'] for index in range(len(dataset))])
    train, val = images
    assert len(train) > len(val) > 0
    assert not {*train} & {*val}


def test_held_out_splits_are_listed_beside_the_config(make):
    cfg, _ = make(folders.as_one_file)
    file = Path('fruits_val.json').resolve()
    assert cfg.val_dataloader.dataset.ann_file == cfg.val_evaluator.ann_file == str(file)
    assert len(json.loads(file.read_text())['images']) == 2


@pytest.mark.parametrize('name', ['fruits.py', 'fruits_train.json', 'fruits_val.json'])
def test_existing_files_stay(name, make, tmp_path):
    (tmp_path / name).write_text('mine')
    with pytest.raises(InputError, match=f'{name} exists already'):
        make(folders.as_one_file)
    assert (tmp_path / name).read_text() == 'mine'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['fruits', name]


@pytest.mark.parametrize(
    ('layout', 'options', 'expected'),
    [
        (folders.as_ade, {'model': 'maskrcnn'}, '--model maskrcnn cannot train on images with'),
        (folders.as_coco, {'backbone': 'resnet'}, 'has the backbone resnet: choose from ca_cswin_'),
        (folders.as_coco, {'epochs': 0}, '--epochs 0: must be at least 1'),
        (folders.as_coco, {'size': (64, 8)}, '--size 8: must be at least 32'),
        (folders.as_coco, {'weights': 'absent.pth'}, 'absent.pth'),
    ],
)
def test_a_recipe_that_does_not_exist(layout, options, expected, make):
    with pytest.raises(InputError, match=expected):
        make(layout, **options)


def test_a_config_finds_its_base_in_another_installation(make, tmp_path):
    """Copied to another machine, a config inherits from the mmca that is there."""
    cfg, _ = make(folders.as_coco)
    shutil.copytree(ROOT / 'mmca', tmp_path / 'there/mmca')
    shutil.copytree(ROOT / 'configs', tmp_path / 'there/mmca/.mim/configs')
    code = (
        'from mmengine.config import Config; import mmca; cfg = Config.fromfile("fruits.py"); '
        'print(mmca.__file__, cfg.text.splitlines()[0], cfg.model.backbone.type)'
    )
    env = {'PYTHONPATH': str(tmp_path / 'there'), 'PATH': ''}
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=env)
    assert done.stdout.count(str(tmp_path / 'there/mmca')) == 2, done.stderr
    assert done.stdout.split()[-1] == cfg.model.backbone.type
