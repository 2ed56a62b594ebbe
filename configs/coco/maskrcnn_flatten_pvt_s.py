_base_ = 'maskrcnn_ca_pvt_s.py'
model = dict(backbone=dict(type='mmca.FLattenPVT'))
