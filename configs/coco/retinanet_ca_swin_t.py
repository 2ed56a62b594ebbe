_base_ = [
    '../_base_/models/retinanet_fpn.py',
    '../_base_/datasets/coco_detection_ms_crop.py',
    '../_base_/schedules/coco_swin_1x.py',
    '../_base_/det_runtime_boxes.py',
]
model = dict(
    backbone=dict(type='mmca.CASwin', arch='tiny', drop_path_rate=0.1, out_indices=(1, 2, 3)),
    neck=dict(in_channels=[192, 384, 768]),
)
