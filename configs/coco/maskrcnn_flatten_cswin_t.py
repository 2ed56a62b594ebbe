_base_ = 'maskrcnn_ca_cswin_t.py'
model = dict(backbone=dict(type='mmca.FLattenCSwin'))
