_base_ = 'fpn_ca_pvt_t.py'
model = dict(backbone=dict(type='mmca.PVT'))
