_base_ = 'retinanet_ca_swin_t.py'
model = dict(backbone=dict(arch='small', drop_path_rate=0.1))
