"""Every config: what it says, that it builds, reads its data, trains a step and predicts."""

import pytest

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmca.layers import DropPath
from mmca.config.models import class_counts
from tests.configs.table import CONFIGS, RECIPES, demo_data, load, method, shrink
from tests.helpers import CONFIGS as CONFIG_ROOT
from tests.helpers import declared_parameters

# One config of each way that the optimizer's groups come about.
GROUPED = [
    'coco/maskrcnn_ca_pvt_t',
    'coco/maskrcnn_ca_swin_t',
    'coco/maskrcnn_ca_swin_t_3x',
    'coco/maskrcnn_ca_deit_t',
    'coco/maskrcnn_flatten_swin_t',
    'coco/retinanet_ca_pvt_t',
    'coco/retinanet_ca_deit_t',
    'coco/cascade_maskrcnn_ca_swin_t',
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

    expected = {'type': f'mmca.{family}', 'arch': arch, 'drop_path_rate': drop_path}
    if method(name) == 'retinanet' and family != 'CADeiT':
        expected['out_indices'] = (1, 2, 3)  # RetinaNet has no level at stride 4
    assert cfg.model.backbone == expected
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


detectors = pytest.mark.parametrize('name', [n for n in CONFIGS if n.startswith('coco')])
segmentors = pytest.mark.parametrize('name', [n for n in CONFIGS if n.startswith('ade20k')])


@detectors
def test_heads_of_detectors(name):
    channels = CONFIGS[name][3]
    cfg = load(name)
    model = cfg.model
    retinanet = method(name) == 'retinanet'
    if len(channels) == 1:
        assert model.neck.type == 'mmca.SimpleFeaturePyramid'
        assert model.neck.in_channels == channels[0]
        assert model.neck.get('start_level', 0) == (1 if retinanet else 0)
    else:
        assert model.neck.type == 'FPN'
        assert model.neck.in_channels == (channels[1:] if retinanet else channels)
        assert model.neck.get('add_extra_convs') == ('on_input' if retinanet else None)
    assert model.neck.num_outs == 5

    heads = {'fasterrcnn': 1, 'retinanet': 1, 'maskrcnn': 2, 'cascade_maskrcnn': 4}
    counts = class_counts(model, 'mmdet')
    assert len(counts) == heads[method(name)]
    assert set(counts.values()) == {80}

    masks = 'maskrcnn' in name
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        steps = {step.type: step for step in loader.dataset.pipeline}
        assert steps['LoadAnnotations'].with_mask == masks
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        assert evaluator.metric == (['bbox', 'segm'] if masks else 'bbox')
    assert cfg.default_hooks.checkpoint.save_best == f'coco/{"segm" if masks else "bbox"}_mAP'
    if method(name) == 'cascade_maskrcnn':
        # The runner makes it SyncBN, and only where there are several processes.
        assert {head.norm_cfg.type for head in model.roi_head.bbox_head} == {'BN'}
        assert cfg.sync_bn == 'torch'


@segmentors
def test_heads_of_segmentors(name):
    channels = CONFIGS[name][3]
    cfg = load(name)
    model = cfg.model
    if len(channels) == 1:
        assert model.neck.type == 'mmca.SimpleFeaturePyramid'
        assert model.neck.in_channels == channels[0]
        assert model.neck.num_outs == 4
        channels = [256] * 4
    assert model.decode_head.num_classes == 150
    assert cfg.val_evaluator.iou_metrics == ['mIoU']
    assert model.test_cfg.mode == 'whole'
    # The runner makes it SyncBN, and only where there are several processes.
    assert model.decode_head.norm_cfg.type == 'BN'
    assert cfg.sync_bn == 'torch'
    if method(name) == 'upernet':
        assert model.decode_head.in_channels == channels
        assert model.decode_head.channels == 512
        assert model.auxiliary_head.in_channels == channels[2]
        assert model.auxiliary_head.num_classes == 150
    else:
        assert model.neck.in_channels == channels
        assert (model.neck.out_channels, model.decode_head.channels) == (256, 128)


def test_stages_of_the_cascade():
    """Swin's heads: boxes refined in three stages, each stricter than the one before."""
    model = load('coco/cascade_maskrcnn_ca_swin_t').model
    heads = model.roi_head.bbox_head
    stds = [[0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067]]
    assert [head.bbox_coder.target_stds for head in heads] == stds
    for head in heads:
        assert (head.num_shared_convs, head.num_shared_fcs) == (4, 1)
        assert (head.loss_bbox.type, head.loss_bbox.loss_weight) == ('GIoULoss', 10.0)
        assert head.reg_decoded_bbox
    assert model.roi_head.stage_loss_weights == [1, 0.5, 0.25]
    assigners = [stage.assigner for stage in model.train_cfg.rcnn]
    keys = ('pos_iou_thr', 'neg_iou_thr', 'min_pos_iou')
    assert [{a[key] for key in keys} for a in assigners] == [{0.5}, {0.6}, {0.7}]


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
    with torch.no_grad():
        (sample,) = model.test_step(demo_data(cfg, 1, 70, 100))
    if cfg.default_scope == 'mmdet':
        found = sample.pred_instances
        assert len(found) > 0
        assert ('masks' in found) == ('maskrcnn' in name)
        if 'masks' in found:
            assert found.masks.shape == (len(found), 70, 100)
        assert torch.isfinite(found.bboxes).all()
        assert found.labels.max() < 80
        # The neck has a level for each stride of the anchors.
        head = model.rpn_head if hasattr(model, 'rpn_head') else model.bbox_head
        levels = model.extract_feat(torch.zeros(1, 3, 96, 160))
        assert [level.shape[2:] for level in levels] == [
            (-(-96 // stride), -(-160 // stride)) for stride, _ in head.prior_generator.strides
        ]
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
