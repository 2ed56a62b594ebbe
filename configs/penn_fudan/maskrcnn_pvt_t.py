_base_ = 'maskrcnn_ca_pvt_t.py'
model = dict(backbone=dict(type='mmca.PVT'))
