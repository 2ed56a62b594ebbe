_base_ = 'ca_pvt_t.py'
model = dict(backbone=dict(arch='large', drop_path_rate=0.3))
