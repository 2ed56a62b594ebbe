_base_ = [
    '../_base_/models/maskrcnn_fpn.py',
    '../_base_/datasets/penn_fudan.py',
    '../_base_/schedules/penn_fudan_12e.py',
]
model = dict(
    backbone=dict(type='mmca.CAPVT', arch='tiny', drop_path_rate=0.1),
    neck=dict(in_channels=[64, 128, 320, 512]),
    roi_head=dict(bbox_head=dict(num_classes=1), mask_head=dict(num_classes=1)),
    train_cfg=dict(rcnn=dict(sampler=dict(num=64))),
)
