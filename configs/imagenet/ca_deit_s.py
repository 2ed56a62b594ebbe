_base_ = 'ca_deit_t.py'
model = dict(backbone=dict(arch='small'), head=dict(in_channels=384))
