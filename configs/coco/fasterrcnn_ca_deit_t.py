# No detector with CA-DeiT has been published: the schedule is Swin's.
_base_ = [
    '../_base_/models/fasterrcnn_fpn.py',
    '../_base_/datasets/coco_detection_ms_crop.py',
    '../_base_/schedules/coco_swin_1x.py',
    '../_base_/det_runtime_boxes.py',
]
model = dict(
    backbone=dict(type='mmca.CADeiT', arch='tiny', drop_path_rate=0.1),
    neck=dict(_delete_=True, type='mmca.SimpleFeaturePyramid', in_channels=192, num_outs=5),
)
