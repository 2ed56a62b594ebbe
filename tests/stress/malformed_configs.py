# ruff: noqa: E501
"""Configs with one fault each, and what the one line must say."""

from dataclasses import dataclass
from pathlib import Path

from tests.helpers import CONFIGS, write_coco

CLASSES = ('disc', 'square', 'triangle', 'star', 'ring')
# Mask R-CNN so small that an iteration takes a tenth of a second.
TINY_DETECTOR = f"""
_base_ = {str(CONFIGS / 'mini/maskrcnn_ca_pvt_mini.py')!r}
model = dict(
    backbone=dict(arch=dict(
        embed_dims=(8, 16, 16, 32), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1),
        mlp_ratios=(1, 1, 1, 1))),
    neck=dict(in_channels=[8, 16, 16, 32], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=16),
        mask_roi_extractor=dict(out_channels=16),
        mask_head=dict(in_channels=16, conv_out_channels=16, num_convs=1)))
train_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dict(
        data_root='ROOT', ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017')))
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(
        data_root='ROOT', ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017')))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='ROOT/annotations/instances_val2017.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1, val_interval=1)
"""


@dataclass
class Case:
    """A fault.

    Attributes:
        name: of the case.
        text: added to the config.
        says: what the line must name: the key, the value, the remedy.
        options: for --cfg-options.
    """

    name: str
    text: str = ''
    says: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def write_detector(folder: Path) -> Path:
    """Write the small detector's config and four images.

    Args:
        folder: for all of it.

    Returns:
        The config.
    """
    for split, number in (('train', 4), ('val', 2)):
        write_coco(folder / 'data', split, number, CLASSES)
    path = folder / 'detector.py'
    path.write_text(TINY_DETECTOR.replace('ROOT', str(folder / 'data')))
    return path


CASES = [
    # --- Types
    Case(
        'backbone type',
        "model = dict(backbone=dict(type='mmca.CAPVTT'))",
        ('model.backbone', 'CAPVTT', 'mean mmca.CAPVT?'),
    ),
    Case(
        'backbone scope',
        "model = dict(backbone=dict(type='mmcaa.CAPVT'))",
        ('model.backbone', 'mmcaa.CAPVT', 'mean mmca.CAPVT?'),
    ),
    Case(
        'backbone without scope',
        "model = dict(backbone=dict(type='CAPVT'))",
        ('model.backbone', 'CAPVT', 'mean mmca.CAPVT?'),
    ),
    Case('neck type', "model = dict(neck=dict(type='FPNN'))", ('model.neck', 'FPNN', 'mean FPN?')),
    Case(
        'head type',
        "model = dict(rpn_head=dict(type='RPNHed'))",
        ('model.rpn_head', 'RPNHed', 'mean RPNHead?'),
    ),
    Case(
        'loss type',
        "model = dict(rpn_head=dict(loss_bbox=dict(type='L1Los')))",
        ('model.rpn_head.loss_bbox', 'L1Los', 'mean L1Loss?'),
    ),
    Case(
        'assigner type',
        "model = dict(train_cfg=dict(rpn=dict(assigner=dict(type='MaxIoUAsigner'))))",
        ('model.train_cfg.rpn.assigner', 'MaxIoUAssigner?'),
    ),
    Case('model type', "model = dict(type='MaskRCN')", ('model', 'MaskRCN', 'mean MaskRCNN?')),
    Case(
        'data set type',
        "train_dataloader = dict(dataset=dict(type='CocoDatset'))",
        ('train_dataloader.dataset', 'CocoDatset', 'mean CocoDataset?'),
    ),
    Case(
        'transform type',
        "p = _base_.train_pipeline\np[2]['type'] = 'RandomFlipp'\ntrain_dataloader = dict(dataset=dict(pipeline=p))",
        ('train_dataloader.dataset.pipeline.2', 'RandomFlipp', 'mean RandomFlip?'),
    ),
    Case(
        'sampler type',
        "train_dataloader = dict(sampler=dict(type='DefaultSampelr'))",
        ('train_dataloader.sampler', 'mean DefaultSampler?'),
    ),
    Case(
        'hook type',
        "custom_hooks = [dict(type='mmca.SeedHok')]",
        ('custom_hooks.0', 'mmca.SeedHok', 'mean mmca.SeedHook?'),
    ),
    Case(
        'optimizer type',
        "optim_wrapper = dict(optimizer=dict(type='AdmaW'))",
        ('optim_wrapper.optimizer', 'AdmaW', 'mean AdamW?'),
    ),
    Case(
        'optimizer wrapper type',
        "optim_wrapper = dict(type='OptimWraper')",
        ('optim_wrapper', 'OptimWraper', 'mean OptimWrapper?'),
    ),
    Case(
        'scheduler type',
        "param_scheduler = [dict(type='LinerLR', start_factor=0.1)]",
        ('param_scheduler.0', 'LinerLR', 'mean LinearLR?'),
    ),
    Case(
        'scheduler type, by iterations',
        "param_scheduler = [dict(type='CosineAnealingLR', begin=0, end=7, T_max=7, convert_to_iter_based=True)]",
        ('param_scheduler.0', 'CosineAnealingLR', 'mean CosineAnnealingLR?'),
    ),
    Case(
        'evaluator type',
        "val_evaluator = dict(type='CocoMetrics')",
        ('val_evaluator', 'CocoMetrics', 'mean CocoMetric?'),
    ),
    Case(
        'loop type',
        "train_cfg = dict(type='EpochBasedTrainLop')",
        ('train_cfg', 'mean EpochBasedTrainLoop?'),
    ),
    Case(
        'visualizer type',
        "visualizer = dict(type='DetLocalVisualiser')",
        ('visualizer', 'mean DetLocalVisualizer?'),
    ),
    Case(
        'weights type',
        "model = dict(backbone=dict(init_cfg=dict(type='Pretraind', checkpoint='x.pth')))",
        ('model.backbone.init_cfg', 'Pretraind', 'mean Pretrained?'),
    ),
    Case(
        'type is missing',
        'model = dict(neck=dict(_delete_=True, in_channels=[8, 16, 16, 32], out_channels=16, num_outs=5))',
        ('model.neck', 'type'),
    ),
    Case(
        'attention', "model = dict(backbone=dict(attn='CCCX'))", ('model.backbone', 'attn', "'X'")
    ),
    # --- Arguments
    Case(
        'backbone argument',
        'model = dict(backbone=dict(archh=1))',
        ('model.backbone', 'archh', 'mean arch?'),
    ),
    Case(
        'neck argument',
        'model = dict(neck=dict(out_channel=16))',
        ('model.neck', 'out_channel', 'mean out_channels?'),
    ),
    Case(
        'head argument',
        'model = dict(rpn_head=dict(feat_chanels=16))',
        ('model.rpn_head', 'feat_chanels', 'mean feat_channels?'),
    ),
    Case(
        'mask head argument',
        'model = dict(roi_head=dict(mask_head=dict(num_conv=1)))',
        ('model.roi_head.mask_head', 'num_conv', 'mean num_convs?'),
    ),
    Case(
        'model argument', 'model = dict(roi_heads=dict())', ('model', 'roi_heads', 'mean roi_head?')
    ),
    Case(
        'preprocessor argument',
        'model = dict(data_preprocessor=dict(meann=[0, 0, 0]))',
        ('model.data_preprocessor', 'meann', 'mean mean?'),
    ),
    Case(
        'data set argument',
        "train_dataloader = dict(dataset=dict(anno_file='x'))",
        ('train_dataloader.dataset', 'anno_file', 'mean ann_file?'),
    ),
    Case(
        'transform argument',
        "p = _base_.train_pipeline\np[2]['probb'] = 1\ntrain_dataloader = dict(dataset=dict(pipeline=p))",
        ('train_dataloader.dataset.pipeline.2', 'probb', 'mean prob?'),
    ),
    Case(
        'test transform argument',
        "p = _base_.test_pipeline\np[1]['scal'] = 1\nval_dataloader = dict(dataset=dict(pipeline=p))",
        ('val_dataloader.dataset.pipeline.1', 'scal', 'mean scale?'),
    ),
    Case(
        'hook argument',
        "custom_hooks = [dict(type='mmca.FiniteLossHook', patients=3)]",
        ('custom_hooks.0', 'patients', 'mean patience?'),
    ),
    Case(
        'checkpoint argument',
        'default_hooks = dict(checkpoint=dict(intervall=1))',
        ('default_hooks.checkpoint', 'intervall', 'mean interval?'),
    ),
    Case(
        'unknown default hook',
        'default_hooks = dict(checkpoints=dict(interval=1))',
        ('default_hooks', 'checkpoints', 'mean checkpoint?'),
    ),
    Case(
        'default hook of ours switched off',
        'default_hooks = dict(preemption=None)',
        ('default_hooks.preemption=None', 'its own hooks alone', 'remove the line'),
    ),
    Case(
        'optimizer argument',
        'optim_wrapper = dict(optimizer=dict(weight_deacy=1))',
        ('optim_wrapper.optimizer', 'weight_deacy', 'mean weight_decay?'),
    ),
    Case(
        'wrapper argument',
        'optim_wrapper = dict(clip_grads=dict(max_norm=1))',
        ('optim_wrapper', 'clip_grads', 'mean clip_grad?'),
    ),
    Case(
        'clip argument',
        'optim_wrapper = dict(clip_grad=dict(max_nrm=1))',
        ('optim_wrapper.clip_grad', 'max_nrm', 'mean max_norm?'),
    ),
    Case(
        'paramwise argument',
        'optim_wrapper = dict(paramwise_cfg=dict(norm_decay_mul=0))',
        ('optim_wrapper.paramwise_cfg', 'norm_decay_mul', 'mean norm_decay_mult?'),
    ),
    Case(
        'scheduler argument',
        "param_scheduler = [dict(type='LinearLR', start_facto=0.1)]",
        ('param_scheduler.0', 'start_facto', 'mean start_factor?'),
    ),
    Case(
        'evaluator argument',
        "val_evaluator = dict(metrics='bbox')",
        ('val_evaluator', 'metrics', 'mean metric?'),
    ),
    Case(
        'loader argument',
        'train_dataloader = dict(batchsize=2)',
        ('train_dataloader', 'batchsize', 'mean batch_size?'),
    ),
    Case(
        'loop argument',
        'train_cfg = dict(max_epoch=1)',
        ('train_cfg', 'max_epoch', 'mean max_epochs?'),
    ),
    Case('randomness argument', 'randomness = dict(sead=1)', ('randomness', 'sead', 'mean seed?')),
    Case(
        'env argument',
        'env_cfg = dict(cudnn_benchmrk=True)',
        ('env_cfg', 'cudnn_benchmrk', 'mean cudnn_benchmark?'),
    ),
    Case(
        'class names',
        "train_dataloader = dict(dataset=dict(metainfo=dict(_delete_=True, clases=('a',))))",
        ('train_dataloader.dataset.metainfo', 'clases', 'mean classes?'),
    ),
    Case(
        'image folder key',
        "train_dataloader = dict(dataset=dict(data_prefix=dict(_delete_=True, imgs='train2017')))",
        ('train_dataloader.dataset.data_prefix', 'imgs', 'mean img?'),
    ),
    Case(
        'filter',
        'train_dataloader = dict(dataset=dict(filter_cfg=dict(min_sise=32)))',
        ('train_dataloader.dataset.filter_cfg', 'min_sise', 'mean min_size?'),
    ),
    Case(
        'test_cfg of the model',
        'model = dict(test_cfg=dict(rcnn=dict(score_th=0.1)))',
        ('model.test_cfg.rcnn', 'score_th', 'mean score_thr?'),
    ),
    Case(
        'train_cfg of the model',
        'model = dict(train_cfg=dict(rcn=dict()))',
        ('model.train_cfg', 'rcn', 'mean rcnn?'),
    ),
    Case(
        'top level',
        "param_schedular = [dict(type='LinearLR')]",
        ('param_schedular', 'mean param_scheduler?'),
    ),
    Case(
        'top level hooks',
        'default_hook = dict(logger=dict(interval=1))',
        ('default_hook', 'mean default_hooks?'),
    ),
    # --- Options
    Case(
        'option, loader',
        options=('train_dataloader.batchsize=2',),
        says=('train_dataloader', 'batchsize', 'mean batch_size?'),
    ),
    Case(
        'option, top level',
        options=('optim_wraper.optimizer.lr=1',),
        says=('optim_wraper', 'mean optim_wrapper?'),
    ),
    Case(
        'option, middle',
        options=('model.bakbone.drop_path_rate=0',),
        says=('model', 'bakbone', 'mean backbone?'),
    ),
    Case('option, unknown', options=('learning_rate=1',), says=('learning_rate',)),
    Case(
        'option, index', options=('train_dataloader.dataset.pipeline.9.prob=1',), says=('pipeline',)
    ),
    Case(
        'option, into a number',
        options=('train_dataloader.batch_size.x=1',),
        says=('train_dataloader.batch_size.x',),
    ),
    Case('option without value', options=('train_dataloader.batch_size',), says=('KEY=VALUE',)),
    # --- Values
    Case(
        'string for a number, lr',
        "optim_wrapper = dict(optimizer=dict(lr='1e-3'))",
        ('optim_wrapper.optimizer', 'lr', "'1e-3'", 'number'),
    ),
    Case(
        'string for a number, batch size',
        "train_dataloader = dict(batch_size='2')",
        ('train_dataloader', 'batch_size', "'2'", 'number'),
    ),
    Case(
        'string for a number, workers',
        "train_dataloader = dict(num_workers='0')",
        ('train_dataloader', 'num_workers', "'0'", 'number'),
    ),
    Case(
        'string for a number, epochs',
        "train_cfg = dict(max_epochs='1')",
        ('train_cfg', 'max_epochs', "'1'", 'number'),
    ),
    Case(
        'string for a number, interval',
        "default_hooks = dict(logger=dict(interval='5'))",
        ('default_hooks.logger', 'interval', "'5'", 'number'),
    ),
    Case(
        'string for a number, keep',
        "default_hooks = dict(checkpoint=dict(max_keep_ckpts='5'))",
        ('default_hooks.checkpoint', 'max_keep_ckpts', "'5'", 'number'),
    ),
    Case(
        'string for a number, channels',
        "model = dict(neck=dict(out_channels='16'))",
        ('model.neck', 'out_channels', "'16'", 'number'),
    ),
    Case(
        'string for a number, classes',
        "model = dict(roi_head=dict(bbox_head=dict(num_classes='5')))",
        ('model.roi_head.bbox_head.num_classes', '5'),
    ),
    Case(
        'string for a number, drop path',
        "model = dict(backbone=dict(drop_path_rate='0.1'))",
        ('model.backbone', 'drop_path_rate', "'0.1'"),
    ),
    Case(
        'string for a number, clip',
        "optim_wrapper = dict(clip_grad=dict(max_norm='x'))",
        ('optim_wrapper.clip_grad', 'max_norm', "'x'"),
    ),
    Case(
        'negative batch',
        'train_dataloader = dict(batch_size=0)',
        ('train_dataloader', 'batch_size'),
    ),
    Case(
        'pipeline is a dict',
        "train_dataloader = dict(dataset=dict(pipeline=dict(type='LoadImageFromFile')))",
        ('pipeline', 'dict'),
    ),
    Case('model is a string', "model = dict(backbone='CAPVT')", ('model.backbone',)),
    Case('no model', "_base_.pop('model')", ('model',)),
    Case('no optimizer', 'optim_wrapper = None', ('optim_wrapper',)),
    Case('no evaluator', 'val_evaluator = None', ('val_evaluator',)),
    Case(
        'loader without data set',
        'train_dataloader = dict(_delete_=True, batch_size=1)',
        ('train_dataloader', 'dataset'),
    ),
    Case('unknown scope', "default_scope = 'mmdett'", ('default_scope', 'mmdett')),
    # --- Channels and classes
    Case(
        'neck channels',
        'model = dict(neck=dict(in_channels=[8, 16, 16, 64]))',
        ('model.neck.in_channels', '64', '32'),
    ),
    Case(
        'neck levels',
        'model = dict(neck=dict(in_channels=[8, 16, 16]))',
        ('model.neck.in_channels', '[8, 16, 16, 32]'),
    ),
    Case(
        'rpn channels',
        'model = dict(rpn_head=dict(in_channels=32))',
        ('model.rpn_head.in_channels', '32', '16'),
    ),
    Case(
        'roi channels',
        'model = dict(roi_head=dict(bbox_head=dict(in_channels=32)))',
        ('model.roi_head.bbox_head.in_channels', '32', '16'),
    ),
    Case(
        'class count',
        'model = dict(roi_head=dict(bbox_head=dict(num_classes=4)))',
        ('model.roi_head.bbox_head.num_classes=4', '5 classes'),
    ),
    Case(
        'class name',
        "train_dataloader = dict(dataset=dict(metainfo=dict(classes=('disc', 'square', 'triangle', 'star', 'rings'))))",
        ('train_dataloader.dataset', 'rings'),
    ),
    Case(
        'class names are a string',
        "train_dataloader = dict(dataset=dict(metainfo=dict(classes='disc')))",
        ('train_dataloader.dataset', 'disc'),
    ),
    # --- The file
    Case('syntax', 'model = dict(backbone=dict(', ('SyntaxError', 'line 2')),
    Case('undefined name', 'model = dict(backbone=dict(depth=depht))', ('depht',)),
    Case('missing base', "_base_ = 'nowhere.py'", ('nowhere.py',)),
    Case(
        'missing import',
        "custom_imports = dict(imports=['mmca', 'not_there'], allow_failed_imports=False)",
        ('not_there',),
    ),
    Case(
        'missing module of a package',
        "custom_imports = dict(imports=['mmca.not_there'], allow_failed_imports=False)",
        ('mmca.not_there',),
    ),
]
