# PVTv2's recipe, since PVT has none for Cascade: Swin's schedule, data and heads.
_base_ = [
    '../_base_/models/cascade_maskrcnn_fpn.py',
    '../_base_/datasets/coco_instance_ms_crop.py',
    '../_base_/schedules/coco_swin_3x.py',
    '../_base_/det_runtime.py',
]
model = dict(
    backbone=dict(type='mmca.CAPVT', arch='tiny', drop_path_rate=0.1),
    neck=dict(in_channels=[64, 128, 320, 512]),
)
