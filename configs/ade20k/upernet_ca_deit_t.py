# No segmentor with CA-DeiT has been published: the schedule is Swin's.
_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/ade20k_upernet_160k.py',
    '../_base_/seg_runtime.py',
]
model = dict(
    backbone=dict(type='mmca.CADeiT', arch='tiny', drop_path_rate=0.1),
    neck=dict(type='mmca.SimpleFeaturePyramid', in_channels=192, num_outs=4),
    decode_head=dict(in_channels=[256, 256, 256, 256]),
    auxiliary_head=dict(in_channels=256),
)
