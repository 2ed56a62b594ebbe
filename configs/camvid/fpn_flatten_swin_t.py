_base_ = 'fpn_ca_swin_t.py'
model = dict(backbone=dict(type='mmca.FLattenSwin'))
