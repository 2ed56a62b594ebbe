# Semantic FPN of 64 channels: small enough for a CPU.
_base_ = [
    '../_base_/models/semantic_fpn.py',
    '../_base_/datasets/camvid.py',
    '../_base_/schedules/camvid_1200.py',
]
model = dict(
    data_preprocessor=dict(size=(240, 320)),
    backbone=dict(type='mmca.CAPVT', arch='tiny', drop_path_rate=0.1),
    neck=dict(in_channels=[64, 128, 320, 512], out_channels=64),
    decode_head=dict(in_channels=[64, 64, 64, 64], channels=64, num_classes=11),
)
