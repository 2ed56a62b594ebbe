"""Every shipped config: recipe, size, a training step, a prediction, and what pipelines make."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, METRICS, MODELS
from mmengine.runner import Runner
from torch import nn

from mmca.config.models import class_counts
from mmca.layers import DropPath
from tests.configs.table import CONFIGS, RECIPES, backbone_of, demo_data, load, params, shrink
from tests.helpers import declared_parameters, write_ade, write_coco, write_image
from tools.mini import STUFF, THINGS, make_mini

LARGE = [name for name, (recipe, _) in CONFIGS.items() if recipe != 'small']
# One config of each way in which the optimizer's groups come about.
GROUPED = [
    *('coco/maskrcnn_ca_pvt_t', 'coco/maskrcnn_ca_swin_t_3x', 'coco/maskrcnn_flatten_swin_t'),
    *('coco/retinanet_ca_deit_t', 'coco/cascade_maskrcnn_ca_swin_t', 'ade20k/upernet_ca_deit_t'),
    *('ade20k/upernet_ca_pvt_t', 'ade20k/fpn_ca_pvt_t', 'imagenet/ca_pvt_t', 'imagenet/deit_t'),
    *('imagenet/ca_swin_t', 'coco/maskrcnn_flatten_cswin_t'),
]
# `shrink` makes models equal that differ in depth alone: PVTs, and Swin-T and Swin-S.
TINY = {name: re.sub(r'(?<=pvt_)[sml]|(?<=swin_)s', 't', name) for name in LARGE}
WIDTHS = [name for name in LARGE if TINY[name] == name or TINY[name] not in CONFIGS]
# These differ from another one in widths or schedule alone.
SIMILAR = [n for n in WIDTHS if re.sub('_[sb]$|_t_3x$', '_t', n) in {*CONFIGS} - {n}]
every_config = pytest.mark.parametrize('name', params(CONFIGS))
every_large = pytest.mark.parametrize('name', params(LARGE))


@every_config
def test_builds_at_full_size(name):
    kind, size = backbone_of(name)
    cfg = load(name)
    assert cfg.model.backbone.get('arch', 'tiny') == size
    assert 'init_cfg' not in cfg.model.backbone  # so that a file is two options
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert type(model.backbone).__name__ == kind
    assert sum(p.numel() for p in model.parameters()) == declared_parameters(name)
    rates = [m.drop_prob for m in model.backbone.modules() if isinstance(m, DropPath)]
    assert max(rates) == pytest.approx(CONFIGS[name][1])
    classes = {'coco': 80, 'ade20k': 150, 'imagenet': 1000, 'camvid': 11, 'penn_fudan': 1}
    counts = class_counts(cfg.model)
    assert set(counts.values()) == {classes[name.partition('/')[0]]}
    if name.startswith('coco'):
        heads = {'fasterrcnn': 1, 'retinanet': 1, 'maskrcnn': 2, 'cascade': 4}
        assert len(counts) == heads[re.match(r'coco/([a-z]+)', name)[1]]


@every_large
def test_recipe(name):
    recipe = CONFIGS[name][0]
    lr, weight_decay, length, warmup, decay, batch_size = RECIPES[recipe]
    cfg = load(name)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', lr, weight_decay)
    assert optimizer.get('betas', (0.9, 0.999)) == (0.9, 0.999)
    clip = {'max_norm': 5.0} if recipe == 'imagenet' else None
    assert cfg.optim_wrapper.get('clip_grad') == clip
    by_epoch = recipe not in ('fpn', 'upernet')
    assert cfg.train_cfg['max_epochs' if by_epoch else 'max_iters'] == length
    *before, main = cfg.param_scheduler
    kinds = {'fpn': 'PolyLR', 'upernet': 'PolyLR', 'imagenet': 'CosineAnnealingLR'}
    assert main.type == kinds.get(recipe, 'MultiStepLR')
    assert {key: main[key] for key in decay} == decay
    assert (main.by_epoch, main.end) == (by_epoch, length)
    found = [(item.end, item.start_factor) for item in before if item.type == 'LinearLR']
    assert found == ([] if warmup is None else [warmup])
    assert main.begin == (warmup[0] if warmup and main.type != 'MultiStepLR' else 0)
    assert cfg.train_dataloader.batch_size * 8 == batch_size
    assert cfg.auto_scale_lr == {'enable': False, 'base_batch_size': batch_size}
    assert cfg.load_from is None
    if cfg.default_scope == 'mmdet':
        masks = 'maskrcnn' in name
        for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
            steps = {step.type: step for step in loader.dataset.pipeline}
            assert steps['LoadAnnotations'].with_mask == masks
        assert cfg.test_evaluator.metric == (['bbox', 'segm'] if masks else 'bbox')
        assert cfg.default_hooks.checkpoint.save_best == f'coco/{"segm" if masks else "bbox"}_mAP'
    # The runner turns BN into SyncBN, and only for several processes.
    assert not re.search(r"'(Sync|Naive)", str(cfg.model))
    if 'cascade' in name or cfg.default_scope == 'mmseg':
        assert cfg.sync_bn == 'torch'


@pytest.mark.parametrize('name', params(WIDTHS, slow=SIMILAR))
def test_trains_a_step_and_predicts(name):
    torch.manual_seed(0)
    np.random.seed(0)
    cfg = shrink(name)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.train()
    gradients = {}
    for path, parameter in model.named_parameters():
        parameter.register_hook(lambda grad, path=path: gradients.update({path: grad}))
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {path: value.clone() for path, value in model.backbone.state_dict().items()}
    log = model.train_step(demo_data(cfg, 2, 64, 96), optim_wrapper)

    assert torch.isfinite(log['loss'])
    # Distributed training would wait for the gradient of an unused parameter.
    assert gradients.keys() == {path for path, _ in model.named_parameters()}
    for path, parameter in model.backbone.named_parameters():
        gradient = gradients[f'backbone.{path}']
        assert torch.isfinite(gradient).all(), path
        assert gradient.abs().max() > 0, path
        assert not torch.equal(parameter, before[path]), path

    model.eval()
    batch = demo_data(cfg, 1, 70, 100)
    with torch.no_grad():
        (sample,) = model.test_step(batch)
    if cfg.default_scope == 'mmdet':
        found = sample.pred_instances
        assert len(found) > 0
        assert ('masks' in found) == ('maskrcnn' in name)
        assert 'masks' not in found or found.masks.shape == (len(found), 70, 100)
        assert torch.isfinite(found.bboxes).all()
        # The neck has a level for each stride of the anchors.
        head = model.rpn_head if hasattr(model, 'rpn_head') else model.bbox_head
        levels = model.extract_feat(torch.zeros(1, 3, 96, 160))
        assert [level.shape[2:] for level in levels] == [
            (-(-96 // stride), -(-160 // stride)) for stride, _ in head.prior_generator.strides
        ]
    elif cfg.default_scope == 'mmseg':
        logits = sample.seg_logits.data
        assert logits.shape == (150, 70, 100)
        assert torch.equal(sample.pred_sem_seg.data[0], logits.argmax(0))
    else:  # the mean of the tokens, or the class token, after a norm
        with torch.no_grad():
            (last,) = model.backbone(model.data_preprocessor(batch)['inputs'])
            if last.dim() == 4:
                tokens = last.flatten(2).mT
                last = (model.neck.norm(tokens) if 'pvt' in name else tokens).mean(1)
            scores = model.head.fc(last).softmax(1)
        torch.testing.assert_close(sample.pred_score, scores[0])


@pytest.mark.parametrize('name', params(GROUPED))
def test_weight_decay_groups(name):
    lr, weight_decay, *_ = RECIPES[CONFIGS[name][0]]
    cfg = shrink(name)
    model = MODELS.build(cfg.model)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    decay = {id(p): group['weight_decay'] for group in groups for p in group['params']}
    undecayed = {path for path, p in model.named_parameters() if decay[id(p)] == 0}
    expected = set()
    if not re.search('coco/.*pvt|ade20k/fpn', name):
        norms = {p for p, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
        ends = r'\.(relative_position_bias_table|positional_encoding|pos_embed\d?|cls_token)'
        ends += '|.*bias' if name.startswith('imagenet') else ''
        for path, _ in model.named_parameters():
            if re.fullmatch(f'.*({ends})', path) or path.rpartition('.')[0] in norms:
                expected.add(path)
        assert expected
    assert undecayed == expected
    assert set(decay.values()) - {0} == {weight_decay}
    assert len(decay) == len(list(model.parameters()))
    assert {group['lr'] for group in groups} == {lr}


@pytest.mark.parametrize(
    'compared',
    ['camvid/fpn', 'camvid/upernet', r'penn_fudan/maskrcnn_(ca_)?pvt', r'penn_fudan/.*deit'],
)
def test_budgets_are_equal_where_models_are_compared(compared):
    configs = [load(name) for name in CONFIGS if re.match(compared, name)]
    assert len(configs) > 1
    for key in ('train_cfg', 'optim_wrapper', 'param_scheduler', 'train_dataloader', 'randomness'):
        assert all(cfg[key] == configs[0][key] for cfg in configs)


@pytest.mark.parametrize('name', params(['mini/maskrcnn_ca_pvt_mini', 'mini/upernet_ca_swin_mini']))
def test_the_synthetic_data_set(name, tmp_path, monkeypatch):
    monkeypatch.setenv('MMCA_DATA_ROOT', str(tmp_path))
    make_mini(tmp_path / 'mini', train=4, val=1)
    cfg = load(name)
    classes = THINGS if cfg.default_scope == 'mmdet' else THINGS + STUFF
    for key in ('train_dataloader', 'val_dataloader'):
        cfg[key].update(num_workers=0, persistent_workers=False)
        assert tuple(cfg[key].dataset.metainfo.classes) == classes
    model = MODELS.build(cfg.model)
    model.init_weights()
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    batch = next(iter(Runner.build_dataloader(cfg.train_dataloader)))
    assert len(batch['inputs']) == 4
    assert torch.isfinite(model.train().train_step(batch, optim_wrapper)['loss'])
    batch = next(iter(Runner.build_dataloader(cfg.val_dataloader)))
    with torch.no_grad():
        (sample,) = model.eval().test_step(batch)
    assert sample.ori_shape == (128, 160)


@pytest.mark.parametrize('name', ['coco/maskrcnn_ca_swin_t_3x', 'coco/retinanet_ca_pvt_t'])
def test_coco(name, tmp_path, monkeypatch):
    monkeypatch.setenv('MMCA_DATA_ROOT', str(tmp_path))
    for split in ('train', 'val'):
        write_coco(tmp_path / 'coco', split, 1, ('person',))
    cfg = load(name)
    train = DATASETS.build(cfg.train_dataloader.dataset)
    items = [train[0] for _ in range(12)]
    assert all(('masks' in i['data_samples'].gt_instances) == ('mask' in name) for i in items)
    sides = {min(item['inputs'].shape[1:]) for item in items}
    assert len(sides) > 3 if '3x' in name else sides == {800}
    assert sides <= set(range(480, 801, 32))
    item = DATASETS.build(cfg.test_dataloader.dataset)[0]
    assert Path(item['data_samples'].img_path) == tmp_path / 'coco/val2017/0.jpg'
    annotations = tmp_path / 'coco/annotations/instances_val2017.json'
    assert Path(cfg.test_evaluator.ann_file) == annotations
    METRICS.build(cfg.test_evaluator)


def test_ade20k(tmp_path, monkeypatch):
    monkeypatch.setenv('MMCA_DATA_ROOT', str(tmp_path))
    root = write_ade(tmp_path, 1, 1)
    for split in ('training', 'validation'):
        write_image(root / f'images/{split}/0.jpg', np.zeros((48, 64, 3)))
        labels = np.repeat(np.arange(48)[:, None], 64, axis=1)
        write_image(root / f'annotations/{split}/0.png', labels)
    cfg = load('ade20k/upernet_ca_swin_b')
    train = DATASETS.build(cfg.train_dataloader.dataset)
    shapes = [train[0]['inputs'].shape[1:] for _ in range(12)]
    assert max(max(shape) for shape in shapes) == 512
    assert min(min(shape) for shape in shapes) >= 256
    item = DATASETS.build(cfg.test_dataloader.dataset)[0]
    assert item['inputs'].shape == (3, 512, 683)
    # 0 is no class, class k is label k - 1, at the size of the original image.
    truth = item['data_samples'].gt_sem_seg.data
    assert truth.shape == (1, 48, 64)
    assert truth[0, :, 0].tolist() == [255, *range(47)]

    cfg = shrink('ade20k/fpn_ca_pvt_t')
    transforms = cfg.tta_pipeline[1].transforms
    assert [item.scale[1] for item in transforms[0]] == [256, 384, 512, 640, 768, 896]
    transforms[0] = [{**transforms[0][0], 'scale': (128, 64)}]
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    batch = pseudo_collate([DATASETS.build(cfg.test_dataloader.dataset)[0]])
    model = MODELS.build({**cfg.tta_model, 'module': cfg.model}).eval()
    with torch.no_grad():
        (sample,) = model.test_step(batch)
    assert sample.pred_sem_seg.shape == (48, 64)
