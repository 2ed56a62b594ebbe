_base_ = 'deit_t.py'
model = dict(backbone=dict(arch='base'), head=dict(in_channels=768))
