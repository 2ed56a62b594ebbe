_base_ = [
    '../_base_/models/maskrcnn_fpn.py',
    '../_base_/datasets/coco_instance_ms_crop.py',
    '../_base_/schedules/coco_swin_1x.py',
    '../_base_/det_runtime.py',
]
model = dict(
    backbone=dict(type='mmca.CACSwin', arch='tiny', drop_path_rate=0.1),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
