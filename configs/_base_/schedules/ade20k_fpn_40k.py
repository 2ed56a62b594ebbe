# Semantic FPN on ADE20K, PVT family, 40,000 iterations.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=40000, val_interval=4000)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=2e-4, weight_decay=1e-4))
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=0.0, by_epoch=False, begin=0, end=40000),
]
