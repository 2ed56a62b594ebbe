# No UperNet with PVT has been published: Swin's schedule, Semantic FPN's drop path.
_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/ade20k_upernet_160k.py',
    '../_base_/seg_runtime.py',
]
model = dict(
    backbone=dict(type='mmca.CAPVT', arch='tiny', drop_path_rate=0.1),
    decode_head=dict(in_channels=[64, 128, 320, 512]),
    auxiliary_head=dict(in_channels=320),
)
