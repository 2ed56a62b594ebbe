# UperNet of 64 channels: small enough for a CPU.
_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/datasets/camvid.py',
    '../_base_/schedules/camvid_1200.py',
]
model = dict(
    data_preprocessor=dict(size=(240, 320)),
    backbone=dict(type='mmca.CASwin', arch='tiny', drop_path_rate=0.1),
    decode_head=dict(in_channels=[96, 192, 384, 768], channels=64, num_classes=11),
    auxiliary_head=dict(in_channels=384, channels=64, num_classes=11),
)
