_base_ = 'maskrcnn_ca_swin_t_3x.py'
model = dict(backbone=dict(type='mmca.FLattenSwin'))
