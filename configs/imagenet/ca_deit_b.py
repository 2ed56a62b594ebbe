_base_ = 'ca_deit_t.py'
model = dict(backbone=dict(arch='base'), head=dict(in_channels=768))
