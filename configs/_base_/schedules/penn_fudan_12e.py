# Penn-Fudan in 12 epochs, 600 iterations of 2 images.
_base_ = '../det_runtime.py'

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=12, val_interval=4)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=4e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[9, 11], gamma=0.1),
]
default_hooks = dict(logger=dict(interval=25))
auto_scale_lr = dict(base_batch_size=2)
randomness = dict(seed=0)
