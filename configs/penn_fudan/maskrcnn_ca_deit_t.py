_base_ = 'maskrcnn_ca_pvt_t.py'
model = dict(
    backbone=dict(_delete_=True, type='mmca.CADeiT', arch='tiny', drop_path_rate=0.1),
    neck=dict(_delete_=True, type='mmca.SimpleFeaturePyramid', in_channels=192, num_outs=5),
)
optim_wrapper = dict(optimizer=dict(lr=2e-4))  # from ImageNet weights
