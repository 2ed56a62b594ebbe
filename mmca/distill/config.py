"""The run of `mmca transfer` as a config of mmengine."""

from argparse import Namespace
from pathlib import Path

from mmengine.config import Config

from mmca.analysis.trained_backbone import softmax_settings
from mmca.config.names import OWN_HOOKS

PATCH = 32  # sizes of crops are multiples of it


def transfer_config(args: Namespace, cfg: Config, settings: dict) -> Config:
    """The run as a config of mmengine.

    Args:
        args: the parsed command line.
        cfg: the config of the detector, segmentor or classifier, with its options merged.
        settings: those of the student, without first weights.

    Returns:
        The config, on one process or as `torchrun` started it.
    """
    weights = dict(type='Pretrained', checkpoint=args.teacher)
    student = dict(settings, init_cfg=dict(weights, gain=args.gain))
    teacher = dict(softmax_settings(settings, args.teacher), init_cfg=weights)
    blocks = args.iters // 2 if args.block_iters is None else args.block_iters
    warmup = min(50, args.iters // 10 + 1)
    preprocessor = cfg.model.get('data_preprocessor') or cfg.data_preprocessor  # mmpretrain's
    views = dict(type='mmca.UnlabeledImages', folders=args.images, side=args.side)
    interval = max(args.iters // 5, 1)
    loading = dict(
        batch_size=args.batch_size,
        num_workers=args.workers,
        collate_fn=dict(type='default_collate'),
    )
    sides = sorted(
        {args.side, args.side * 3 // 4 // PATCH * PATCH, args.side // 2 // PATCH * PATCH}
    )
    return Config(
        dict(
            default_scope='mmengine',
            work_dir=args.work_dir or f'work_dirs/transfer_{Path(args.config).stem}',
            resume=args.resume,
            launcher=args.launcher,
            model=dict(
                type='mmca.AttentionTransfer',
                student=student,
                teacher=teacher,
                block_iters=blocks,
                train=args.train,
                sizes=[(height, width) for height in sides for width in sides],
                data_preprocessor=dict(
                    type='ImgDataPreprocessor',
                    mean=preprocessor['mean'],
                    std=preprocessor['std'],
                    bgr_to_rgb=True,
                ),
            ),
            train_dataloader=dict(
                **loading,
                sampler=dict(type='InfiniteSampler', shuffle=True),
                dataset=views,
            ),
            val_dataloader=dict(
                **loading,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=dict(views, test_mode=True),
            ),
            train_cfg=dict(by_epoch=False, max_iters=args.iters, val_interval=interval),
            val_cfg=dict(),
            val_evaluator=dict(type='mmca.TransferError'),
            optim_wrapper=dict(
                type='AmpOptimWrapper' if args.amp else 'OptimWrapper',
                optimizer=dict(type='AdamW', lr=args.lr, weight_decay=0.0),
                clip_grad=dict(max_norm=1.0),
            ),
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=warmup),
                dict(type='CosineAnnealingLR', by_epoch=False, begin=warmup, end=args.iters),
            ],
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=20, log_metric_by_epoch=False),
                checkpoint=dict(
                    type='CheckpointHook', by_epoch=False, interval=interval, max_keep_ckpts=1
                ),
                **{name: dict(type=kind) for name, kind in OWN_HOOKS.items()},
            ),
            custom_hooks=[dict(type='mmca.SeedHook'), dict(type='mmca.TransferReportHook')],
            log_processor=dict(by_epoch=False),
            randomness=dict(seed=args.seed),
        )
    )
