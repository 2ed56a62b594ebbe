_base_ = 'upernet_ca_swin_s.py'
model = dict(backbone=dict(type='mmca.FLattenSwin'))
