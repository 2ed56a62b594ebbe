# UperNet with a small CA-Swin on the synthetic data set of tools/make_mini.py; minutes on a CPU.
_base_ = ['../_base_/models/upernet.py', '../_base_/seg_runtime.py']

data_root = '{{$MMCA_DATA_ROOT:data}}/mini/ade'
metainfo = dict(
    classes=('disc', 'square', 'triangle', 'star', 'ring', 'grass', 'sand', 'water'),
    palette=[
        (230, 60, 60),
        (240, 170, 30),
        (250, 240, 70),
        (180, 60, 220),
        (250, 120, 190),
        (60, 150, 60),
        (200, 180, 130),
        (60, 120, 220),
    ],
)

model = dict(
    data_preprocessor=dict(size=(128, 160)),
    backbone=dict(
        type='mmca.CASwin',
        arch=dict(embed_dims=32, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8)),
        drop_path_rate=0.05,
    ),
    decode_head=dict(in_channels=[32, 64, 128, 256], channels=64, num_classes=8),
    auxiliary_head=dict(in_channels=128, channels=32, num_classes=8),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=[0.25, 0.25], direction=['horizontal', 'vertical']),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='BaseSegDataset',
        data_root=data_root,
        metainfo=metainfo,
        reduce_zero_label=True,
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='BaseSegDataset',
        data_root=data_root,
        metainfo=metainfo,
        reduce_zero_label=True,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

train_cfg = dict(type='IterBasedTrainLoop', max_iters=400, val_interval=200)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=2e-3, weight_decay=1e-2))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=30, end=400),
]
randomness = dict(seed=0)
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(
    logger=dict(interval=30),
    checkpoint=dict(interval=200),
    visualization=dict(interval=1),
)
