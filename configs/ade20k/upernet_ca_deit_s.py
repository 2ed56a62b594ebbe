_base_ = 'upernet_ca_deit_t.py'
model = dict(
    backbone=dict(arch='small', drop_path_rate=0.1),
    neck=dict(in_channels=384),
)
