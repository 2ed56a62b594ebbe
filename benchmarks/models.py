"""Suites of whole backbones and whole detectors."""

import copy
import logging
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.baselines import (
    MMDET_BACKBONES,
    MMDET_MASK,
    TIMM_BACKBONES,
    mmdet_backbone,
    mmdet_settings,
    timm_backbone,
)
from benchmarks.cases import Case, Workload, random_inputs, register_suite
from benchmarks.flags import at_least
from mmca.config.packages import require
from mmca.config.reader import library_of, load_config
from mmca.errors import InputError
from mmca.layers import registered_attentions
from mmca.layers.attention import attention_letters

OURS = ('ca_pvt_s', 'ca_swin_t', 'pvt_s', 'swin_t')
BASELINES = ('mmdet_pvt_s', 'mmdet_swin_t', 'resnet50')
CONFIGS = ('coco/maskrcnn_ca_pvt_s', 'coco/maskrcnn_ca_swin_t')
BOXES = 8
# Large enough that each stage's grid exceeds a window of Swin: mmdet shifts and masks a grid that
# fits into one window; mmca, like the original classifiers, does not.
PROBE_SHAPE = (256, 320)
SHAPE = dict(
    nargs=2,
    type=at_least(32),
    default=(800, 1344),
    metavar=('H', 'W'),
    help='image size; default 800 1344',
)


@register_suite(
    'backbone',
    rounds=5,
    flags={
        '--ours': dict(nargs='+', metavar='NAME', default=OURS, help='named as in configs'),
        '--baselines': dict(
            nargs='+',
            metavar='NAME',
            default=BASELINES,
            help=f'named as in configs, or {", ".join((*MMDET_BACKBONES, *TIMM_BACKBONES))}',
        ),
        '--shape': SHAPE,
        '--batch': dict(type=at_least(1), default=1, help='batch size; default 1'),
    },
)
def backbone_cases(args: Namespace) -> list[Case]:
    """Whole backbones at one image size."""
    names = list(dict.fromkeys([*args.ours, *args.baselines]))
    check_names(names)
    for name in names:
        if args.dtype == torch.bfloat16 and name.startswith('mmdet_swin'):
            raise InputError(f'{name} does not run in bfloat16: {MMDET_MASK}')
    if len(names) == len(set(args.ours)):
        raise InputError('--baselines names none besides --ours: there is nothing to compare with')

    def build(name: str) -> Workload:
        images, probe = random_inputs([(args.batch, 3, *args.shape), (1, 3, *PROBE_SHAPE)], args)
        module = build_backbone(name).to(args.device, args.dtype)
        return Workload(module, (images.detach(),), (probe.detach(),))

    twins = {theirs: backbone.ours for theirs, backbone in MMDET_BACKBONES.items()}
    same = tuple((twins[name], name) for name in names if twins.get(name) in names)
    label = f'{args.batch}x3x{args.shape[0]}x{args.shape[1]}'
    builders = {name: partial(build, name) for name in names}
    return [Case(label, builders, tuple(args.ours), same, images=args.batch)]


def check_names(names: Sequence[str]) -> None:
    """Raise an InputError for a backbone that is unknown or lacks its package."""
    require('mmengine')
    from mmca.backbones.catalog import find_backbone

    for name in names:
        if name in MMDET_BACKBONES:
            require('mmcv', 'mmdet')
        elif name in TIMM_BACKBONES:
            try:
                import_module('timm')
            except (ImportError, RuntimeError) as error:  # torchvision may be for another torch
                raise InputError(
                    f'{name}: cannot import timm ({error}); run: pip install timm, with the '
                    f'torchvision for torch {torch.__version__}'
                ) from error
        else:
            find_backbone(name.partition('@')[0])


def build_backbone(name: str) -> nn.Module:
    """A backbone by its name, such as 'ca_pvt_s' or 'mmdet_pvt_s', without stochastic depth.

    'deit_t@K' has other attention, with the options that it starts from softmax weights with.
    """
    if name in MMDET_BACKBONES:
        return mmdet_backbone(name)
    if name in TIMM_BACKBONES:
        return timm_backbone(name)
    from mmca.backbones.catalog import find_backbone

    name, _, attn = name.partition('@')
    backbone, arch = find_backbone(name)
    if not attn:
        return backbone(arch, drop_path_rate=0.0)
    known, letters = registered_attentions(), attention_letters()
    kinds = {kind: known[kind] for kind in map(letters.get, attn) if kind in known}
    attn_cfg = {kind: dict(cls.softmax_options) for kind, cls in kinds.items()}
    return backbone(arch, attn=attn, attn_cfg=attn_cfg, drop_path_rate=0.0)


def _init_weights(model: nn.Module) -> None:
    """Initialize as before training, without the log lines."""
    logging.disable(logging.WARNING)
    try:
        model.init_weights()
    finally:
        logging.disable(logging.NOTSET)


class DetectorStep(nn.Module):
    """Raw images and annotations -> an mmdet detector's summed loss in training, else boxes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, data: dict) -> Any:
        data = self.model.data_preprocessor(data, self.training)
        if not self.training:
            return self.model(**data, mode='predict')
        return self.model.parse_losses(self.model(**data, mode='loss'))[0]


@register_suite(
    'detector',
    rounds=3,
    flags={
        '--configs': dict(nargs='+', default=CONFIGS, metavar='CONFIG', help='configs of mmca'),
        '--baselines': dict(
            nargs='*',
            default=BASELINES,
            choices=tuple(MMDET_BACKBONES),
            metavar='NAME',
            help='mmdet backbones that replace the one in the first config: %(choices)s',
        ),
        '--shape': SHAPE,
    },
)
def detector_cases(args: Namespace) -> list[Case]:
    """Whole detectors, with the optimizer step, on one random image.

    An untrained detector is confident of nothing: its predictions hold no boxes and no masks.
    """
    if args.dtype != torch.float32:
        raise InputError('--dtype: detectors run in float32, use --amp')
    if args.amp and args.device.type == 'cpu':
        raise InputError('--amp: detectors need a GPU for it, mmcv has no NMS in bfloat16 on a CPU')
    require('mmengine', 'mmcv', 'mmdet')
    cfgs = {Path(path).stem: load_config(path) for path in args.configs}
    if len(cfgs) < len(args.configs):
        raise InputError('--configs: two files have the same name')
    if len(cfgs) + len(args.baselines) < 2:
        raise InputError('--configs names one and --baselines none: nothing to compare with')
    for path, cfg in zip(args.configs, cfgs.values(), strict=True):
        if library_of(cfg, path) != 'mmdet':
            raise InputError(f'config {path} is not a detector: its default_scope is not mmdet')
    ours = tuple(cfgs)
    if args.baselines and cfgs[ours[0]].model.neck.type not in ('FPN', 'mmdet.FPN'):
        raise InputError(f'--baselines need a first config with an FPN: {args.configs[0]} has none')
    for name in args.baselines:
        cfgs[name] = cfg = copy.deepcopy(cfgs[ours[0]])
        cfg.model.backbone = mmdet_settings(name)
        cfg.model.neck.in_channels = MMDET_BACKBONES[name].channels

    def build(name: str) -> Workload:
        from mmdet.testing import demo_mm_inputs
        from mmengine.optim import build_optim_wrapper
        from mmengine.registry import MODELS, DefaultScope

        cfg = cfgs[name]
        cfg.model.backbone.init_cfg = None
        if 'drop_path_rate' in cfg.model.backbone:
            cfg.model.backbone.drop_path_rate = 0.0
        with DefaultScope.overwrite_default_scope('mmdet'):
            model = MODELS.build(cfg.model)
            _init_weights(model)
            model.to(args.device)
            optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
        for group in optimizer.param_groups:
            group['lr'] = 0.0  # a full step that leaves the weights as they are for every round
        # Every label is 1, a class that every detector has.
        data = demo_mm_inputs(
            1, [(3, *args.shape)], [BOXES], num_classes=2, with_mask=True, device=args.device
        )
        return Workload(DetectorStep(model), (data,), after=optimizer.step)

    label = f'1x3x{args.shape[0]}x{args.shape[1]}'
    builders = {name: partial(build, name) for name in cfgs}
    return [Case(label, builders, ours, images=1)]
