# Softmax baseline.
_base_ = 'maskrcnn_ca_cswin_t.py'
model = dict(backbone=dict(type='mmca.CSwin'))
