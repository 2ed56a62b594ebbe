_base_ = 'fpn_ca_deit_t.py'
model = dict(
    decode_head=dict(
        loss_decode=[
            dict(type='CrossEntropyLoss'),
            dict(type='LovaszLoss', reduction='none'),  # of intersection over union
        ]
    )
)
