_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/cls_runtime.py',
]
# The paper's schedule and augmentations; Swin's drop path (t 0.2, s 0.3, b 0.5); DeiT's and Swin's
# strengths of RandAugment, Mixup and CutMix.
model = dict(
    backbone=dict(type='mmca.CASwin', arch='tiny', drop_path_rate=0.2, out_indices=(3,)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(in_channels=768),
)
