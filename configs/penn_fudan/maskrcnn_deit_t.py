_base_ = 'maskrcnn_ca_deit_t.py'
model = dict(backbone=dict(type='mmca.DeiT'))
