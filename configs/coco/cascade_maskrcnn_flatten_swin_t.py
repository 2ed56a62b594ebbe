_base_ = 'cascade_maskrcnn_ca_swin_t.py'
model = dict(backbone=dict(type='mmca.FLattenSwin'))
