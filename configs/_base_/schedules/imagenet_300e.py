# ImageNet, 300 epochs, for a batch of 1024.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300, val_interval=1)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='mmca.OptimWrapperConstructor',  # position tables and embeddings do not decay
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)
# The paper states 20 epochs of warm-up and the cosine; their start and end, 1e-6 and 1e-5, are
# Swin's for this batch.
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        by_epoch=True,
        begin=0,
        end=20,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-5,
        by_epoch=True,
        begin=20,
        end=300,
        convert_to_iter_based=True,
    ),
]
