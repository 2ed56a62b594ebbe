_base_ = 'ca_pvt_t.py'
model = dict(backbone=dict(arch='medium', drop_path_rate=0.3))
