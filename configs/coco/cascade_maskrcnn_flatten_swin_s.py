_base_ = 'cascade_maskrcnn_flatten_swin_t.py'
model = dict(backbone=dict(arch='small'))
