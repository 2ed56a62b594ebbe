_base_ = [
    '../_base_/models/fasterrcnn_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/coco_pvt_1x.py',
    '../_base_/det_runtime_boxes.py',
]
model = dict(
    backbone=dict(type='mmca.CAPVT', arch='tiny', drop_path_rate=0.1),
    neck=dict(in_channels=[64, 128, 320, 512]),
)
