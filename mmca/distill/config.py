"""The mmengine config of a distillation."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.config import Config

from mmca.analysis.trained_backbone import backbone_settings, softmax_settings
from mmca.backbones.catalog import start_settings
from mmca.checkpoint import read_checkpoint
from mmca.errors import InputError

UNIT = 32  # sides of crops are multiples


def distill_config(
    cfg: Config,
    teacher: str,
    images: Sequence[str],
    work_dir: str,
    *,
    iters: int = 1000,
    calibrate: int | None = None,
    block_iters: int | None = None,
    batch_size: int = 16,
    lr: float = 5e-4,
    train: str = 'blocks',
    side: int = 288,
    workers: int = 2,
    seed: int = 0,
    amp: bool = False,
    resume: bool = False,
    launcher: str = 'none',
) -> Config:
    """Configure a run of `mmca.Runner` that distills a softmax backbone.

    Args:
        cfg: config of the detector, segmentor or classifier with the student's backbone.
        teacher: file of softmax weights, which the student starts from as well.
        images: folders.
        work_dir: for logs and checkpoints.
        iters, ...: as in `mmca distill --help`; `block_iters` is half of `iters` by default,
            `calibrate` 200 without iterations and 0 with them.

    Raises:
        InputError: not a backbone of mmca, an unreadable file, or a bad side.
    """
    if side < 2 * UNIT or side % UNIT:
        raise InputError(f'--side {side}: must be a multiple of {UNIT}, at least {2 * UNIT}')
    settings = backbone_settings(cfg)
    content = read_checkpoint(teacher)
    weights = dict(type='Pretrained', checkpoint=teacher)
    student = {**start_settings(settings, content), 'drop_path_rate': 0.0}
    original = softmax_settings(student, content)
    calibrate = (0 if iters else 200) if calibrate is None else calibrate
    warmup, interval = min(50, iters // 10 + 1), max(iters // 5, 1)
    warmup = 0 if warmup < 2 else warmup  # LinearLR is done at `end - 1`: one has no ramp
    ramp = dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=warmup)
    sides = sorted({side, side * 3 // 4 // UNIT * UNIT, side // 2 // UNIT * UNIT})
    preprocessor = cfg.model.get('data_preprocessor') or cfg.data_preprocessor  # mmpretrain's
    loading = dict(
        batch_size=batch_size, num_workers=workers, collate_fn=dict(type='default_collate')
    )
    views = dict(type='mmca.UnlabeledImages', folders=list(images), side=side)
    return Config(
        dict(
            default_scope='mmengine',
            work_dir=work_dir,
            resume=resume,
            launcher=launcher,
            model=dict(
                type='mmca.Distiller',
                student=dict(student, init_cfg=weights),
                teacher=dict(original, init_cfg=weights),
                block_iters=iters // 2 if block_iters is None else block_iters,
                train=train,
                sizes=[(height, width) for height in sides for width in sides],
                data_preprocessor=dict(
                    type='ImgDataPreprocessor',
                    mean=preprocessor['mean'],
                    std=preprocessor['std'],
                    bgr_to_rgb=True,
                ),
            ),
            train_dataloader=dict(
                **loading, sampler=dict(type='InfiniteSampler', shuffle=True), dataset=views
            ),
            val_dataloader=dict(
                **loading,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=dict(views, test_mode=True),
            ),
            train_cfg=dict(by_epoch=False, max_iters=iters, val_interval=interval),
            val_cfg=dict(),
            val_evaluator=dict(type='mmca.DistillationError'),
            optim_wrapper=dict(
                type='AmpOptimWrapper' if amp else 'OptimWrapper',
                optimizer=dict(type='AdamW', lr=lr, weight_decay=0.0),
                clip_grad=dict(max_norm=1.0),
            ),
            param_scheduler=[
                *([ramp] if warmup else []),
                dict(type='CosineAnnealingLR', by_epoch=False, begin=warmup, end=iters),
            ][: 2 * iters],
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=20, log_metric_by_epoch=False),
                checkpoint=dict(
                    type='CheckpointHook', by_epoch=False, interval=interval, max_keep_ckpts=1
                ),
            ),
            custom_hooks=[
                dict(type='mmca.SeedHook'),
                dict(type='mmca.DistillationReportHook', calibrate=calibrate),
            ],
            log_processor=dict(by_epoch=False),
            randomness=dict(seed=seed),
        )
    )
