_base_ = 'fpn_ca_pvt_t.py'
model = dict(
    backbone=dict(_delete_=True, type='mmca.CADeiT', arch='tiny', drop_path_rate=0.1),
    neck=dict(
        _delete_=True,
        type='mmca.SimpleFeaturePyramid',
        in_channels=192,
        out_channels=64,
        num_outs=4,
    ),
)
