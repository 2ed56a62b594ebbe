_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/cls_runtime.py',
]
# The schedule and the augmentations are the paper's; drop path (t and s 0.1, m and l 0.3) is that
# of PVT's own recipes, the strengths of RandAugment, Mixup and CutMix are DeiT's and Swin's.
model = dict(
    backbone=dict(type='mmca.CAPVT', arch='tiny', drop_path_rate=0.1, out_indices=(3,)),
    neck=dict(type='mmca.NormPool', in_channels=512),
    head=dict(in_channels=512),
)
