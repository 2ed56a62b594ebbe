_base_ = 'upernet_ca_deit_t.py'
model = dict(
    backbone=dict(arch='base', drop_path_rate=0.2),
    neck=dict(in_channels=768),
)
