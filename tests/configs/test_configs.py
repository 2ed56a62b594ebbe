"""Every config: what it says, that it builds, reads its data, trains a step and predicts."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

import torch
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config, DictAction
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, METRICS, MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image
from torch import Tensor, nn

from mmca.layers import DropPath
from tests.helpers import CONFIGS as CONFIG_ROOT
from tests.helpers import declared_parameters

PVT = [64, 128, 320, 512]
SWIN = [96, 192, 384, 768]
SWIN_B = [128, 256, 512, 1024]
DEIT_T, DEIT_S, DEIT_B = [192], [384], [768]

# name: (type, arch, drop path, channels, blocks, of which circulant, recipe)
CONFIGS = {
    'coco/maskrcnn_ca_pvt_t': ('CAPVT', 'tiny', 0.1, PVT, 8, 4, 'maskrcnn_pvt'),
    'coco/maskrcnn_ca_pvt_s': ('CAPVT', 'small', 0.2, PVT, 16, 7, 'maskrcnn_pvt'),
    'coco/maskrcnn_ca_pvt_m': ('CAPVT', 'medium', 0.1, PVT, 28, 7, 'maskrcnn_pvt'),
    'coco/maskrcnn_ca_pvt_l': ('CAPVT', 'large', 0.2, PVT, 41, 11, 'maskrcnn_pvt'),
    'coco/maskrcnn_pvt_s': ('PVT', 'small', 0.2, PVT, 16, 0, 'maskrcnn_pvt'),
    'coco/maskrcnn_ca_swin_t': ('CASwin', 'tiny', 0.1, SWIN, 12, 4, 'maskrcnn_swin'),
    'coco/maskrcnn_ca_swin_s': ('CASwin', 'small', 0.1, SWIN, 24, 4, 'maskrcnn_swin'),
    'coco/maskrcnn_swin_t': ('Swin', 'tiny', 0.1, SWIN, 12, 0, 'maskrcnn_swin'),
    'coco/maskrcnn_ca_swin_t_3x': ('CASwin', 'tiny', 0.1, SWIN, 12, 4, 'maskrcnn_swin_3x'),
    'coco/maskrcnn_ca_swin_s_3x': ('CASwin', 'small', 0.1, SWIN, 24, 4, 'maskrcnn_swin_3x'),
    'coco/maskrcnn_ca_deit_t': ('CADeiT', 'tiny', 0.1, DEIT_T, 12, 12, 'maskrcnn_swin'),
    'coco/maskrcnn_ca_deit_s': ('CADeiT', 'small', 0.1, DEIT_S, 12, 12, 'maskrcnn_swin'),
    'coco/maskrcnn_ca_deit_b': ('CADeiT', 'base', 0.2, DEIT_B, 12, 12, 'maskrcnn_swin'),
    'coco/maskrcnn_flatten_pvt_t': ('FLattenPVT', 'tiny', 0.1, PVT, 8, 0, 'maskrcnn_pvt'),
    'coco/maskrcnn_flatten_pvt_s': ('FLattenPVT', 'small', 0.2, PVT, 16, 0, 'maskrcnn_pvt'),
    'coco/maskrcnn_flatten_swin_t': ('FLattenSwin', 'tiny', 0.1, SWIN, 12, 0, 'maskrcnn_swin'),
    'ade20k/upernet_ca_deit_t': ('CADeiT', 'tiny', 0.1, DEIT_T, 12, 12, 'upernet'),
    'ade20k/upernet_ca_deit_s': ('CADeiT', 'small', 0.1, DEIT_S, 12, 12, 'upernet'),
    'ade20k/upernet_ca_deit_b': ('CADeiT', 'base', 0.2, DEIT_B, 12, 12, 'upernet'),
    'ade20k/upernet_flatten_swin_t': ('FLattenSwin', 'tiny', 0.3, SWIN, 12, 0, 'upernet'),
    'ade20k/upernet_flatten_swin_s': ('FLattenSwin', 'small', 0.3, SWIN, 24, 0, 'upernet'),
    'ade20k/fpn_flatten_pvt_t': ('FLattenPVT', 'tiny', 0.1, PVT, 8, 0, 'fpn'),
    'ade20k/fpn_flatten_pvt_s': ('FLattenPVT', 'small', 0.1, PVT, 16, 0, 'fpn'),
    'ade20k/upernet_ca_swin_t': ('CASwin', 'tiny', 0.3, SWIN, 12, 4, 'upernet'),
    'ade20k/upernet_ca_swin_s': ('CASwin', 'small', 0.3, SWIN, 24, 4, 'upernet'),
    'ade20k/upernet_ca_swin_b': ('CASwin', 'base', 0.5, SWIN_B, 24, 4, 'upernet'),
    'ade20k/upernet_swin_t': ('Swin', 'tiny', 0.3, SWIN, 12, 0, 'upernet'),
    'ade20k/upernet_ca_pvt_t': ('CAPVT', 'tiny', 0.1, PVT, 8, 4, 'upernet'),
    'ade20k/upernet_ca_pvt_s': ('CAPVT', 'small', 0.1, PVT, 16, 7, 'upernet'),
    'ade20k/upernet_ca_pvt_m': ('CAPVT', 'medium', 0.2, PVT, 28, 7, 'upernet'),
    'ade20k/upernet_ca_pvt_l': ('CAPVT', 'large', 0.1, PVT, 41, 11, 'upernet'),
    'ade20k/fpn_ca_pvt_t': ('CAPVT', 'tiny', 0.1, PVT, 8, 4, 'fpn'),
    'ade20k/fpn_ca_pvt_s': ('CAPVT', 'small', 0.1, PVT, 16, 7, 'fpn'),
    'ade20k/fpn_ca_pvt_m': ('CAPVT', 'medium', 0.2, PVT, 28, 7, 'fpn'),
    'ade20k/fpn_ca_pvt_l': ('CAPVT', 'large', 0.1, PVT, 41, 11, 'fpn'),
    'ade20k/fpn_pvt_s': ('PVT', 'small', 0.1, PVT, 16, 0, 'fpn'),
}

# recipe: (lr, weight decay, epochs or iterations, warm-up (iterations, factor), decay)
RECIPES = {
    'maskrcnn_pvt': (2e-4, 1e-4, 12, (500, 1e-3), {'milestones': [8, 11], 'gamma': 0.1}),
    'maskrcnn_swin': (1e-4, 0.05, 12, (1000, 1e-3), {'milestones': [8, 11], 'gamma': 0.1}),
    'maskrcnn_swin_3x': (1e-4, 0.05, 36, (1000, 1e-3), {'milestones': [27, 33], 'gamma': 0.1}),
    'upernet': (6e-5, 0.01, 160_000, (1500, 1e-6), {'power': 1.0, 'eta_min': 0.0}),
    'fpn': (2e-4, 1e-4, 40_000, None, {'power': 0.9, 'eta_min': 0.0}),
}

# One config of each way that the optimizer's groups come about.
GROUPED = [
    'coco/maskrcnn_ca_pvt_t',
    'coco/maskrcnn_ca_swin_t',
    'coco/maskrcnn_ca_swin_t_3x',
    'coco/maskrcnn_ca_deit_t',
    'coco/maskrcnn_flatten_swin_t',
    'ade20k/upernet_ca_deit_t',
    'ade20k/upernet_flatten_swin_t',
    'ade20k/upernet_ca_swin_t',
    'ade20k/upernet_ca_pvt_t',
    'ade20k/fpn_ca_pvt_t',
]

every_config = pytest.mark.parametrize('name', CONFIGS)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def load(name: str, *options: str) -> Config:
    """A config with options as `--cfg-options` takes them, its library's scope switched on."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={})
    args = parser.parse_args(['--cfg-options', *options] if options else [])
    cfg = Config.fromfile(CONFIG_ROOT / f'{name}.py')
    cfg.merge_from_dict(args.cfg_options)
    init_default_scope(cfg.default_scope)
    return cfg


def shrink(name: str) -> Config:
    """A config with few blocks and no stochastic depth; all widths as they are."""
    family, _, _, channels, *_ = CONFIGS[name]
    depths = 'depth=2' if 'DeiT' in family else 'depths=(1,1,2,1)'
    options = [
        'model.backbone.arch._delete_=True',
        f'model.backbone.arch.{depths}',
        'model.backbone.drop_path_rate=0.0',
    ]
    if 'DeiT' in family:
        options += [
            f'model.backbone.arch.embed_dims={channels[0]}',
            f'model.backbone.arch.num_heads={channels[0] // 64}',
        ]
    if 'Swin' in family:
        heads = ','.join(str(width // 32) for width in channels)
        options += [
            f'model.backbone.arch.embed_dims={channels[0]}',
            f'model.backbone.arch.num_heads=({heads})',
        ]
    if name.startswith('coco'):
        # No threshold: an untrained model must have something to draw masks for.
        options += [
            'model.train_cfg.rpn_proposal.max_per_img=64',
            'model.train_cfg.rcnn.sampler.num=32',
            'model.test_cfg.rpn.max_per_img=64',
            'model.test_cfg.rcnn.max_per_img=8',
            'model.test_cfg.rcnn.score_thr=0.0',
        ]
    else:
        options.append('model.data_preprocessor.size=(64,96)')
    return load(name, *options)


def demo_data(cfg: Config, batch_size: int, height: int, width: int) -> dict:
    """A batch of noise with labels, as the library's data loader gives it."""
    if cfg.default_scope == 'mmdet':
        shapes = [(3, height, width)] * batch_size
        return demo_mm_inputs(batch_size, shapes, num_classes=80, with_mask=True)
    generator = torch.Generator().manual_seed(0)
    items = []
    for _ in range(batch_size):
        labels = torch.randint(0, 150, (1, height, width), generator=generator)
        meta = {'ori_shape': (height, width), 'img_shape': (height, width)}
        sample = SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo=meta)
        image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
        items.append({'inputs': image, 'data_samples': sample})
    return pseudo_collate(items)


def test_the_configs_are_those_of_the_table():
    found = {
        path.relative_to(CONFIG_ROOT).with_suffix('').as_posix()
        for folder in ('coco', 'ade20k')
        for path in (CONFIG_ROOT / folder).glob('*.py')
    }
    assert found == set(CONFIGS)


@every_config
def test_recipe(name):
    family, arch, drop_path, _, _, _, recipe = CONFIGS[name]
    lr, weight_decay, length, warmup, decay = RECIPES[recipe]
    cfg = load(name)

    assert cfg.model.backbone == {
        'type': f'mmca.{family}',
        'arch': arch,
        'drop_path_rate': drop_path,
    }
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', lr, weight_decay)
    assert optimizer.get('betas', (0.9, 0.999)) == (0.9, 0.999)
    assert cfg.optim_wrapper.get('clip_grad') is None

    by_epoch = name.startswith('coco')
    assert cfg.train_cfg['max_epochs' if by_epoch else 'max_iters'] == length
    *before, main = cfg.param_scheduler
    assert main.type == ('MultiStepLR' if by_epoch else 'PolyLR')
    assert {key: main[key] for key in decay} == decay
    assert (main.by_epoch, main.end) == (by_epoch, length)
    if warmup is None:
        assert not before
        assert main.begin == 0
    else:
        (linear,) = before
        assert (linear.type, linear.by_epoch, linear.begin) == ('LinearLR', False, 0)
        assert (linear.end, linear.start_factor) == warmup
        assert main.begin == (0 if by_epoch else linear.end)

    assert cfg.train_dataloader.batch_size * 8 == 16
    assert cfg.auto_scale_lr == {'enable': False, 'base_batch_size': 16}
    assert 'load_from' in cfg
    assert cfg.load_from is None


@every_config
def test_heads(name):
    _, _, _, channels, _, _, recipe = CONFIGS[name]
    cfg = load(name)
    model = cfg.model
    plain = len(channels) == 1
    if plain:
        assert model.neck.type == 'mmca.SimpleFeaturePyramid'
        assert [model.neck.in_channels] == channels
        assert model.neck.num_outs == (5 if recipe.startswith('maskrcnn') else 4)
        channels = [256] * 4
    if recipe.startswith('maskrcnn'):
        assert plain or model.neck.in_channels == channels
        assert model.roi_head.bbox_head.num_classes == 80
        assert model.roi_head.mask_head.num_classes == 80
        assert set(cfg.val_evaluator.metric) == {'bbox', 'segm'}
        return
    assert model.decode_head.num_classes == 150
    assert cfg.val_evaluator.iou_metrics == ['mIoU']
    assert model.test_cfg.mode == 'whole'
    # The runner makes it SyncBN, and only where there are several processes.
    assert model.decode_head.norm_cfg.type == 'BN'
    assert cfg.sync_bn == 'torch'
    if recipe == 'upernet':
        assert model.decode_head.in_channels == channels
        assert model.decode_head.channels == 512
        assert model.auxiliary_head.in_channels == channels[2]
        assert model.auxiliary_head.num_classes == 150
    else:
        assert model.neck.in_channels == channels
        assert (model.neck.out_channels, model.decode_head.channels) == (256, 128)


@every_config
def test_builds_at_full_size(name):
    family, _, drop_path, channels, blocks, circulant, _ = CONFIGS[name]
    model = MODELS.build(load(name).model)
    assert sum(p.numel() for p in model.parameters()) == declared_parameters(name)
    backbone = model.backbone
    modules = dict(backbone.named_modules())
    assert type(backbone).__name__ == family
    dims = backbone.embed_dims
    assert ([dims] if isinstance(dims, int) else list(dims)) == channels
    assert sum(path.endswith('.norm1') for path in modules) == blocks
    assert sum(path.endswith('.cpe') for path in modules) == circulant
    rates = [module.drop_prob for module in modules.values() if isinstance(module, DropPath)]
    assert max(rates) == pytest.approx(drop_path)


@every_config
def test_trains_a_step_and_predicts(name):
    torch.manual_seed(0)
    cfg = shrink(name)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.train()
    gradients: dict[str, Tensor] = {}
    for path, parameter in model.backbone.named_parameters():
        parameter.register_hook(lambda grad, path=path: gradients.update({path: grad}))

    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {path: value.clone() for path, value in model.backbone.state_dict().items()}
    log = model.train_step(demo_data(cfg, 2, 64, 96), optim_wrapper)

    assert torch.isfinite(log['loss'])
    for path, parameter in model.backbone.named_parameters():
        assert torch.isfinite(gradients[path]).all(), path
        assert gradients[path].abs().max() > 0, path
        assert not torch.equal(parameter, before[path]), path

    model.eval()
    with torch.no_grad():
        (sample,) = model.test_step(demo_data(cfg, 1, 70, 100))
    if cfg.default_scope == 'mmdet':
        found = sample.pred_instances
        assert len(found) > 0
        assert found.masks.shape == (len(found), 70, 100)
        assert torch.isfinite(found.bboxes).all()
        assert found.labels.max() < 80
    else:
        logits = sample.seg_logits.data
        assert logits.shape == (150, 70, 100)
        assert torch.isfinite(logits).all()
        assert torch.equal(sample.pred_sem_seg.data[0], logits.argmax(0))


@pytest.mark.parametrize('name', GROUPED)
def test_weight_decay_groups(name):
    lr, weight_decay, *_ = RECIPES[CONFIGS[name][-1]]
    cfg = shrink(name)
    model = MODELS.build(cfg.model)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    decay = {id(p): group['weight_decay'] for group in groups for p in group['params']}

    exempt = set()
    if 'swin' in name or 'deit' in name or 'upernet' in name:
        for path, module in model.named_modules():
            if isinstance(module, nn.LayerNorm):
                exempt |= {f'{path}.weight', f'{path}.bias'}
        tables = ('relative_position_bias_table', 'positional_encoding')
        tables += tuple(f'pos_embed{i}' for i in range(1, 5))
        exempt |= {path for path, _ in model.named_parameters() if path.endswith(tables)}
        assert exempt
    undecayed = {path for path, p in model.named_parameters() if decay[id(p)] == 0}
    assert undecayed == exempt
    assert {value for value in decay.values() if value} == {weight_decay}
    assert len(decay) == len(list(model.parameters()))
    assert {group['lr'] for group in groups} == {lr}


@every_config
def test_a_pretrained_file_is_two_options(name):
    assert 'init_cfg' not in load(name).model.backbone
    cfg = load(
        name,
        'model.backbone.init_cfg.type=Pretrained',
        'model.backbone.init_cfg.checkpoint=weights.pth',
    )
    assert cfg.model.backbone.init_cfg == {'type': 'Pretrained', 'checkpoint': 'weights.pth'}


@pytest.fixture
def coco_root(tmp_path, monkeypatch):
    """A COCO of one image a split, 64 x 48, in MMCA_DATA_ROOT."""
    monkeypatch.setenv('MMCA_DATA_ROOT', str(tmp_path))
    rng = np.random.default_rng(0)
    (tmp_path / 'coco/annotations').mkdir(parents=True)
    for split in ('train2017', 'val2017'):
        (tmp_path / 'coco' / split).mkdir()
        image = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / 'coco' / split / f'{split}.jpg')
        annotation = {
            'id': 1,
            'image_id': 1,
            'category_id': 1,
            'bbox': [8, 8, 40, 32],
            'area': 1280,
            'iscrowd': 0,
            'segmentation': [[8, 8, 48, 8, 48, 40, 8, 40]],
        }
        truth = {
            'images': [{'id': 1, 'file_name': f'{split}.jpg', 'width': 64, 'height': 48}],
            'categories': [{'id': 1, 'name': 'person'}],
            'annotations': [annotation],
        }
        path = tmp_path / 'coco/annotations' / f'instances_{split}.json'
        path.write_text(json.dumps(truth))
    return tmp_path / 'coco'


@pytest.mark.parametrize('name', ['coco/maskrcnn_ca_pvt_t', 'coco/maskrcnn_ca_swin_t_3x'])
def test_coco_is_read_from_the_data_root(name, coco_root):
    cfg = load(name)
    train = DATASETS.build(cfg.train_dataloader.dataset)
    items = [train[0] for _ in range(12)]
    sides = {tuple(item['inputs'].shape[1:]) for item in items}
    for item in items:
        sample = item['data_samples']
        assert Path(sample.img_path) == coco_root / 'train2017/train2017.jpg'
        assert len(sample.gt_instances.masks) == len(sample.gt_instances.bboxes)
    if 'swin' in name:
        assert len(sides) > 3
        assert {min(side) for side in sides} <= set(range(480, 801, 32))
    else:
        assert sides == {(800, 1067)}

    for loader, metric in (
        (cfg.val_dataloader, cfg.val_evaluator),
        (cfg.test_dataloader, cfg.test_evaluator),
    ):
        item = DATASETS.build(loader.dataset)[0]
        assert Path(item['data_samples'].img_path) == coco_root / 'val2017/val2017.jpg'
        assert item['inputs'].shape == (3, 800, 1067)
        assert item['data_samples'].ori_shape == (48, 64)
        assert Path(metric.ann_file) == coco_root / 'annotations/instances_val2017.json'
        assert METRICS.build(metric).metrics == ['bbox', 'segm']


@pytest.fixture
def ade20k_root(tmp_path, monkeypatch):
    """An ADE20K of one image a split, 64 x 48, in MMCA_DATA_ROOT."""
    monkeypatch.setenv('MMCA_DATA_ROOT', str(tmp_path))
    rng = np.random.default_rng(0)
    root = tmp_path / 'ADEChallengeData2016'
    labels = np.repeat(np.arange(48, dtype=np.uint8)[:, None], 64, axis=1)
    for split in ('training', 'validation'):
        for folder in ('images', 'annotations'):
            (root / folder / split).mkdir(parents=True)
        image = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(image).save(root / 'images' / split / f'{split}.jpg')
        Image.fromarray(labels).save(root / 'annotations' / split / f'{split}.png')
    return root


def test_ade20k_is_read_from_the_data_root(ade20k_root):
    cfg = load('ade20k/upernet_ca_swin_b')
    train = DATASETS.build(cfg.train_dataloader.dataset)
    assert Path(train[0]['data_samples'].img_path).stem == 'training'
    shapes = [train[0]['inputs'].shape[1:] for _ in range(12)]
    assert max(max(shape) for shape in shapes) == 512
    assert min(min(shape) for shape in shapes) >= 256

    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        item = DATASETS.build(loader.dataset)[0]
        assert Path(item['data_samples'].img_path).stem == 'validation'
        assert item['inputs'].shape == (3, 512, 683)
        truth = item['data_samples'].gt_sem_seg.data
        # 0 is no class, class k is label k - 1, at the size of the original image.
        assert truth.shape == (1, 48, 64)
        assert truth[0, :, 0].tolist() == [255, *range(47)]
    assert len(train.metainfo['classes']) == 150
    METRICS.build(cfg.test_evaluator)


def test_ade20k_test_time_augmentation(ade20k_root):
    cfg = shrink('ade20k/fpn_ca_pvt_t')
    scales = [item.scale for item in cfg.tta_pipeline[1].transforms[0]]
    assert scales == [(1024, 256), (1536, 384), (2048, 512), (2560, 640), (3072, 768), (3584, 896)]
    cfg.merge_from_dict({'tta_pipeline.1.transforms.0.0.scale': (128, 64)})
    cfg.tta_pipeline[1].transforms[0] = cfg.tta_pipeline[1].transforms[0][:1]

    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    batch = pseudo_collate([DATASETS.build(cfg.test_dataloader.dataset)[0]])
    assert [inputs[0].shape[1:] for inputs in batch['inputs']] == [(64, 85), (64, 85)]
    model = MODELS.build({**cfg.tta_model, 'module': cfg.model}).eval()
    with torch.no_grad():
        (sample,) = model.test_step(batch)
    assert sample.pred_sem_seg.shape == (48, 64)


def test_the_data_root_has_a_default(monkeypatch):
    monkeypatch.delenv('MMCA_DATA_ROOT', raising=False)
    assert load('coco/maskrcnn_ca_pvt_t').train_dataloader.dataset.data_root == 'data/coco'
    root = load('ade20k/fpn_ca_pvt_t').train_dataloader.dataset.data_root
    assert root == 'data/ADEChallengeData2016'
