_base_ = 'fpn_ca_pvt_t.py'
model = dict(
    backbone=dict(_delete_=True, type='mmca.CASwin', arch='tiny', drop_path_rate=0.1),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
