_base_ = 'default_runtime.py'

default_scope = 'mmpretrain'
# mmpretrain imports torchvision, which may be missing.
custom_imports = dict(imports=['mmca.engine', 'mmca.engine.no_torchvision'])
default_hooks = dict(
    logger=dict(interval=100),
    checkpoint=dict(interval=1, save_best='accuracy/top1'),
    visualization=dict(type='VisualizationHook'),
)
visualizer = dict(
    type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer'
)
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)

# Training crops have one size, so cuDNN's kernel selection pays off.
env_cfg = dict(cudnn_benchmark=True)

# The recipe is for 8 GPUs x 128 images.
auto_scale_lr = dict(base_batch_size=1024)
