# Swin's recipe: 36 epochs, drop path 0.2 for both sizes.
_base_ = [
    '../_base_/models/cascade_maskrcnn_fpn.py',
    '../_base_/datasets/coco_instance_ms_crop.py',
    '../_base_/schedules/coco_swin_3x.py',
    '../_base_/det_runtime.py',
]
model = dict(
    backbone=dict(type='mmca.CASwin', arch='tiny', drop_path_rate=0.2),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
