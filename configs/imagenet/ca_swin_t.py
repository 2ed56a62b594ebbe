_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/cls_runtime.py',
]
# The schedule and the augmentations are the paper's; drop path (t 0.2, s 0.3, b 0.5) is that of
# Swin's own recipes, the strengths of RandAugment, Mixup and CutMix are DeiT's and Swin's.
model = dict(
    backbone=dict(type='mmca.CASwin', arch='tiny', drop_path_rate=0.2, out_indices=(3,)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(in_channels=768),
)
