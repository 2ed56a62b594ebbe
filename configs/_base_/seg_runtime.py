_base_ = 'default_runtime.py'

default_scope = 'mmseg'
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=4000, save_best='mIoU'),
    visualization=dict(type='SegVisualizationHook'),
)
visualizer = dict(
    type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer'
)
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=False)

# Training crops have one size, so cuDNN's kernel selection pays off.
env_cfg = dict(cudnn_benchmark=True)

# Several processes turn the heads' BN into SyncBN, which runs only on GPUs: for several CPU
# processes the tools set sync_bn=None.
sync_bn = 'torch'

tta_model = dict(type='SegTTAModel')
