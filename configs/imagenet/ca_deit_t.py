_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/cls_runtime.py',
]
# The schedule and the augmentations are the paper's; drop path (0.1 in all sizes) is that of
# DeiT's own recipe, as are the strengths of RandAugment, Mixup and CutMix.
model = dict(
    backbone=dict(type='mmca.CADeiT', arch='tiny', drop_path_rate=0.1),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(in_channels=192),
)
