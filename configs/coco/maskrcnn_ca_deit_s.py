_base_ = 'maskrcnn_ca_deit_t.py'
model = dict(
    backbone=dict(arch='small', drop_path_rate=0.1),
    neck=dict(in_channels=384),
)
