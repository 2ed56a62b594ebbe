_base_ = 'fpn_ca_pvt_s.py'
model = dict(backbone=dict(type='mmca.FLattenPVT'))
