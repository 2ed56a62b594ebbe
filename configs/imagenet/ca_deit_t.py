_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/cls_runtime.py',
]
# The paper's schedule and augmentations; DeiT's drop path (0.1 in all sizes) and strengths of
# RandAugment, Mixup and CutMix.
model = dict(
    backbone=dict(type='mmca.CADeiT', arch='tiny', drop_path_rate=0.1),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(in_channels=192),
)
