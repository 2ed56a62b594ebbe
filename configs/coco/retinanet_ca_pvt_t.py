_base_ = [
    '../_base_/models/retinanet_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/coco_pvt_1x.py',
    '../_base_/det_runtime_boxes.py',
]
model = dict(
    backbone=dict(type='mmca.CAPVT', arch='tiny', drop_path_rate=0.1, out_indices=(1, 2, 3)),
    neck=dict(in_channels=[128, 320, 512]),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
