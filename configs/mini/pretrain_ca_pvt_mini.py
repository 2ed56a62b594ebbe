# Pre-trains the backbone of maskrcnn_ca_pvt_mini.py, alone, on the one-object images of
# tools/make_mini.py; minutes on a CPU.
_base_ = 'maskrcnn_ca_pvt_mini.py'

default_scope = 'mmpretrain'
custom_imports = dict(imports=['mmca.engine', 'mmca.engine.no_torchvision'])
data_root = '{{$MMCA_DATA_ROOT:data}}/mini/imagenet'

model = dict(
    _delete_=True,
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ClsDataPreprocessor',
        num_classes=5,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
    backbone=dict(**_base_.model.backbone, out_indices=(3,)),
    neck=dict(type='mmca.NormPool', in_channels=192),
    head=dict(
        type='LinearClsHead',
        num_classes=5,
        in_channels=192,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1),
    ),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']
    ),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(
    _delete_=True,
    batch_size=16,
    num_workers=1,
    pin_memory=False,  # mmpretrain's default is for GPUs
    persistent_workers=False,  # mmca.SeedHook seeds new ones for each epoch
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset', data_root=data_root, data_prefix='train', pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    _delete_=True,
    batch_size=32,
    num_workers=1,
    pin_memory=False,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CustomDataset',
        data_root=data_root,
        data_prefix='val',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='Accuracy', topk=(1,))
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=10, val_interval=1)
optim_wrapper = dict(optimizer=dict(lr=4e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        begin=0,
        end=10,
        T_max=10,
        eta_min=1e-5,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(base_batch_size=16)
default_hooks = dict(
    checkpoint=dict(save_best='accuracy/top1'),
    visualization=dict(_delete_=True, type='VisualizationHook'),
)
visualizer = dict(type='UniversalVisualizer')
