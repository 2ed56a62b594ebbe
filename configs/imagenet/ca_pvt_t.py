_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/cls_runtime.py',
]
# The paper's schedule and augmentations; PVT's drop path (t and s 0.1, m and l 0.3); DeiT's and
# Swin's strengths of RandAugment, Mixup and CutMix.
model = dict(
    backbone=dict(type='mmca.CAPVT', arch='tiny', drop_path_rate=0.1, out_indices=(3,)),
    neck=dict(type='mmca.NormPool', in_channels=512),
    head=dict(in_channels=512),
)
