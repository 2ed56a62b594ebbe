_base_ = 'cascade_maskrcnn_ca_pvt_t.py'
model = dict(backbone=dict(arch='small', drop_path_rate=0.2))
