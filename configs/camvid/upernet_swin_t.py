_base_ = 'upernet_ca_swin_t.py'
model = dict(backbone=dict(type='mmca.Swin'))
