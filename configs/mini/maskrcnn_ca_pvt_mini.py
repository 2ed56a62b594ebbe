# Mask R-CNN with a small CA-PVT on the synthetic data set of tools/make_mini.py; minutes on a CPU.
_base_ = ['../_base_/models/maskrcnn_fpn.py', '../_base_/det_runtime.py']

data_root = '{{$MMCA_DATA_ROOT:data}}/mini/coco'
metainfo = dict(classes=('disc', 'square', 'triangle', 'star', 'ring'))

model = dict(
    backbone=dict(
        type='mmca.CAPVT',
        arch=dict(
            embed_dims=(32, 64, 128, 192),
            depths=(1, 1, 2, 1),
            num_heads=(1, 2, 4, 6),
            mlp_ratios=(4, 4, 4, 4),
        ),
        drop_path_rate=0.05,
        pretrain_img_size=128,
    ),
    neck=dict(in_channels=[32, 64, 128, 192], out_channels=64),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        # One sample per cell is enough for objects of this size; RoIAlign is serial on CPUs, and
        # the adaptive number makes steps a sixth longer.
        bbox_roi_extractor=dict(out_channels=64, roi_layer=dict(sampling_ratio=1)),
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=5),
        mask_roi_extractor=dict(out_channels=64, roi_layer=dict(sampling_ratio=1)),
        mask_head=dict(in_channels=64, conv_out_channels=64, num_convs=2, num_classes=5),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=300, max_per_img=100),
        rcnn=dict(sampler=dict(num=32, pos_fraction=0.5)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=100), rcnn=dict(max_per_img=30)),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']
    ),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(160, 128), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=False,  # mmca.SeedHook seeds new ones for each epoch
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/train.json',
        data_prefix=dict(img='train'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/val.json',
        data_prefix=dict(img='val'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='CocoMetric', ann_file=f'{data_root}/annotations/val.json', metric=['bbox', 'segm']
)
test_evaluator = val_evaluator

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=7, val_interval=7)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=1e-2),
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        begin=0,
        end=7,
        T_max=7,
        eta_min=1e-5,
        convert_to_iter_based=True,
    ),
]
randomness = dict(seed=0)
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(logger=dict(interval=30), visualization=dict(score_thr=0.5))
