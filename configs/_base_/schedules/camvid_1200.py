# CamVid in 1,200 iterations of 4 images.
_base_ = '../seg_runtime.py'

train_cfg = dict(type='IterBasedTrainLoop', max_iters=1200, val_interval=300)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', power=0.9, eta_min=0.0, by_epoch=False, begin=50, end=1200),
]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=300))
auto_scale_lr = dict(base_batch_size=4)
randomness = dict(seed=0)
