_base_ = 'deit_t.py'
model = dict(backbone=dict(arch='small'), head=dict(in_channels=384))
