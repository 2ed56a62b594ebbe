# For detectors without masks.
_base_ = 'det_runtime.py'
default_hooks = dict(checkpoint=dict(save_best='coco/bbox_mAP'))
