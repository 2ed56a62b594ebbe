"""The models that every table compares."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

HYBRID = ('model.backbone.attn=SCCSSSSSSSSS',)  # where circulant matrices explain most
FIVE = ('model.backbone.attn=CCCCCSSSSSSS',)  # where they explain a quarter
LINEAR = ('model.backbone.attn=L',)
SOFTMAX = ('model.backbone.attn=S',)
# The projection of the teacher's attention: its own heads, and the factor of the paper.
HEADS_OF_SOFTMAX = (
    'model.backbone.attn_cfg.circulant.head_dim=softmax',
    'model.backbone.attn_cfg.circulant.scale=paper',
)
ONE_CHANNEL = (  # a head, as in the released CA-DeiT
    'model.backbone.attn_cfg.circulant.head_dim=1',
    'model.backbone.attn_cfg.circulant.scale=sqrt',
)
KEYED = ('model.backbone.attn=K',)
FIVE_WINDOWS = ('model.backbone.attn=WWWWWKKKKKKK',)
WINDOWS = ('model.backbone.attn=WWKWWKWWKWWK',)  # every third block global, as in ViTDet
SMALL_WINDOWS = (*WINDOWS, 'model.backbone.attn_cfg.window.window_size=7')
EXACT_WINDOWS = ('model.backbone.attn=X',)
RECOMMENDED = ('model.backbone.attn=XSSXXXSXXXXK',)  # by mmca analyze, for Penn-Fudan's images
FIVE_KEYED = ('model.backbone.attn=CCCCCKKKKKKK', *HEADS_OF_SOFTMAX)
TOKEN = ('model.backbone.with_cls_token=True',)
SCRATCH, CONVERTED = 'scratch', 'converted'


@dataclass(frozen=True)
class Transfer:
    """One run of `mmca distill` from ImageNet's DeiT-T.

    Attributes:
        name: names its files.
        label: names it in the table.
        flags: of the command, besides those that all have.
        options: `--cfg-options`.
        images: their number, all by default.
        folder: of the images, below the data root; the lab's by default.
    """

    name: str
    label: str
    flags: tuple[str, ...]
    options: tuple[str, ...] = ONE_CHANNEL
    images: int | None = None
    folder: str | None = None


@dataclass(frozen=True)
class Row:
    """One model of a table.

    Attributes:
        name: names its files.
        label: names it in the table.
        config: a shipped config.
        start: 'scratch'; 'converted', from ImageNet's DeiT-T as `init_cfg` converts it; or a
            transfer, from its result.
        options: `--cfg-options`.
        teacher: another table's name and one of its rows; this one is not trained, but made from
            that row's model of the same seed by a transfer on CamVid's images.
        table: another table, whose run of that name this is.
    """

    name: str
    label: str
    config: str
    start: str | Transfer = SCRATCH
    options: tuple[str, ...] = ()
    teacher: str | None = None
    table: str | None = None

    @property
    def model_options(self) -> tuple[str, ...]:
        """`options`, and the position embedding that ImageNet's DeiT has."""
        started = self.start != SCRATCH
        return (*self.options, *(['model.backbone.pos_embed=True'] if started else []))


@dataclass(frozen=True)
class Table:
    """Rows that share data, schedule and budget.

    Attributes:
        name: folder of the logs below docs/results.
        title: heading.
        seeds: runs of every row.
        metrics: figures of the log -> heading.
        shape: height and width for which multiply-adds are counted.
        rows: the models.
        plotted: names of the rows that its plot shows, five at most; all by default.
    """

    name: str
    title: str
    seeds: int
    metrics: dict[str, str]
    shape: tuple[int, int]
    rows: tuple[Row, ...]
    plotted: tuple[str, ...] = ()


def _scratch(names: Sequence[str], head: str, *options: str) -> Iterator[Row]:
    for name in names:
        label, config = f'{LABELS[name]}, {HEADS[head]}', f'camvid/{head}_{name}'
        yield Row(f'{head}_{name}', label, config, options=options)


def _from_deit(folder: str, head: str, *shared: str) -> tuple[Row, ...]:
    circulant, softmax = f'{folder}/{head}_ca_deit_t', f'{folder}/{head}_deit_t'
    rows = (
        Row('deit_t', 'DeiT-T (softmax)', softmax, CONVERTED),
        Row('ca_converted', 'CA-DeiT-T, converted', circulant, CONVERTED),
        Row('ca_transferred', 'CA-DeiT-T, distilled', circulant, LONG['circulant']),
        *(
            Row(f'{name}_converted', f'{label}, converted', circulant, CONVERTED, options)
            for name, (label, options) in MIXTURES.items()
        ),
        *(
            Row(f'{start.name}', start.label, circulant, start, start.options)
            for start in (*CALIBRATED, *DISTILLED)
        ),
        Row('hybrid_converted', 'SCCSSSSSSSSS, converted', circulant, CONVERTED, HYBRID),
        Row('hybrid_transferred', 'SCCSSSSSSSSS, distilled', circulant, LONG['hybrid'], HYBRID),
        Row('linear_converted', 'linear attention, converted', circulant, CONVERTED, LINEAR),
        Row('linear_transferred', 'linear attention, distilled', circulant, LONG['linear'], LINEAR),
    )
    return tuple(replace(row, options=(*row.options, *shared)) for row in rows)


def _small_batches(folder: str, head: str, label: str, *options: str) -> Iterator[Row]:
    circulant = f'{folder}/{head}_ca_deit_t'
    for name, start, config, model in (
        ('deit_t_small_batch', 'DeiT-T (softmax)', f'{folder}/{head}_deit_t', ()),
        ('small_batch', 'CA-DeiT-T, d = 64, converted', circulant, HEADS_OF_SOFTMAX),
        (
            'small_windows_small_batch',
            f'{MIXTURES["small_windows"][0]}, converted',
            circulant,
            SMALL_WINDOWS,
        ),
    ):
        yield Row(name, f'{start}, {label}', config, CONVERTED, (*model, *options))


def _epochs(number: int, *drops: int) -> tuple[str, ...]:
    return (
        f'train_cfg.max_epochs={number}',
        'train_cfg.val_interval=3',
        f'param_scheduler.1.milestones=[{",".join(map(str, drops))}]',
        f'param_scheduler.1.end={number}',
    )


def _channels(number: int) -> tuple[str, ...]:
    parts = (
        'neck.out_channels',
        'rpn_head.in_channels',
        'rpn_head.feat_channels',
        'roi_head.bbox_roi_extractor.out_channels',
        'roi_head.bbox_head.in_channels',
        'roi_head.mask_roi_extractor.out_channels',
        'roi_head.mask_head.in_channels',
        'roi_head.mask_head.conv_out_channels',
    )
    linear = f'model.roi_head.bbox_head.fc_out_channels={8 * number}'
    return (*(f'model.{part}={number}' for part in parts), linear)


def _head_rate(backbone: float, factor: int) -> tuple[str, ...]:
    share = f'optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult={1 / factor:.4f}'
    return f'optim_wrapper.optimizer.lr={backbone * factor:.1e}', share


def _head_rates(folder: str, head: str, rate: float, recipe: str, *shared: str) -> Iterator[Row]:
    """Rows with higher learning rates in neck and heads than in the backbone."""
    circulant = f'{folder}/{head}_ca_deit_t'
    softmax = 'DeiT-T (softmax)', f'{folder}/{head}_deit_t'
    models = [
        ('deit_t_', *softmax, CONVERTED, ()),
        ('linear_', 'linear attention, converted', circulant, CONVERTED, LINEAR),
    ]
    for mixture in ('heads', 'keyed', 'small_windows', 'exact_windows', 'recommended'):
        prefix = '' if mixture == 'heads' else f'{mixture}_'
        label, options = MIXTURES[mixture]
        models.append((prefix, f'{label}, converted', circulant, CONVERTED, options))
        for transfer in ('calibrated', 'distilled'):
            start = TRANSFERS[f'{mixture}_{transfer}']
            models.append((f'{prefix}{transfer}_', start.label, circulant, start, options))
    for name, label, config, start, model in models:
        for factor, suffix in ((3, ''), (10, '_10')):
            times = f'{factor} times the learning rate in neck and heads'
            options = (*model, *shared, *_head_rate(rate, factor))
            whole = f'{label}, {recipe}, {times}'
            yield Row(f'{name}head_rate{suffix}', whole, config, start, options)


def _more_on_penn_fudan() -> tuple[Row, ...]:
    name = 'penn_fudan/maskrcnn_ca_deit_t'
    label = 'CA-DeiT-T, distilled in 1,000 iterations'
    small_batch = ('train_dataloader.batch_size=1', 'optim_wrapper.optimizer.lr=1.4e-4')
    small = (*HEADS_OF_SOFTMAX, *SIZE_320, *small_batch)
    start = 'CA-DeiT-T, d = 64, converted, batch size 1'
    return (
        *_small_batches('penn_fudan', 'maskrcnn', 'batch size 1', *HALF_AS_LONG, *small_batch),
        *(
            Row(
                f'channels_{channels}',
                f'{start}, {channels} channels, {epochs[0]} epochs',
                name,
                CONVERTED,
                (*small, *_channels(channels), *_epochs(*epochs)),
            )
            for channels, epochs in ((128, (13, 10, 12)), (64, (21, 16, 19)))
        ),
        *_head_rates(
            'penn_fudan',
            'maskrcnn',
            1.4e-4,
            'batch size 1, 128 channels, 13 epochs',
            *(*SIZE_320, *small_batch, *_channels(128), *_epochs(13, 10, 12)),
        ),
        Row('ca_scratch', 'CA-DeiT-T from scratch', name, options=HALF_AS_LONG),
        Row('ca_iters_1000', label, name, TRANSFERS['iters_1000'], HALF_AS_LONG),
    )


def _more_on_camvid() -> tuple[Row, ...]:
    small_batch = (
        'train_dataloader.batch_size=2',
        'optim_wrapper.optimizer.lr=2e-4',
        'train_cfg.max_iters=2400',
        'train_cfg.val_interval=600',
        'default_hooks.checkpoint.interval=600',
        'param_scheduler.1.end=2400',
    )
    size = 'batch size 2, 2,400 iterations'
    return (
        *_small_batches('camvid', 'fpn', size, *small_batch),
        *_head_rates('camvid', 'fpn', 2e-4, size, *small_batch),
        Row(
            'lovasz_head_rate_10',
            f'CA-DeiT-T, d = 64, converted, {size}, 10 times the learning rate, Lovasz loss',
            f'{CA_DEIT}_lovasz',
            CONVERTED,
            (*HEADS_OF_SOFTMAX, *small_batch, *_head_rate(2e-4, 10)),
        ),
        Row('deit_t_transferred', 'DeiT-T, distilled', CA_DEIT, LONG['softmax'], SOFTMAX),
        Row('fpn_ca_deit_t', 'CA-DeiT-T from scratch', CA_DEIT, table='camvid_scratch'),
        Row('five_converted', 'CCCCCSSSSSSS, converted', CA_DEIT, CONVERTED, FIVE),
        Row('deit_t_token', 'DeiT-T with class token', 'camvid/fpn_deit_t', CONVERTED, TOKEN),
    )


def _by_size() -> tuple[Row, ...]:
    longest = 'distilled on all images, 6,000 iterations'
    return (
        Row('ca_converted', 'converted', CA_DEIT, CONVERTED, table='camvid_deit'),
        *(Row(t.name, f'distilled on {t.label}', CA_DEIT, t) for t in SIZES),
        Row('ca_transferred', longest, CA_DEIT, LONG['circulant'], table='camvid_deit'),
    )


def _unlabeled() -> Iterator[Row]:
    for name, table, options in (
        ('pvt_t', 'camvid_scratch', ()),
        ('swin_t', 'camvid_swin', A_QUARTER),
    ):
        for other in (name, f'ca_{name}'):
            label, config = f'{LABELS[other]}, with labels', f'camvid/fpn_{other}'
            yield Row(f'fpn_{other}', label, config, options=options, table=table)
        label = f'{LABELS[f"ca_{name}"]}, distilled from {LABELS[name]}, no labels'
        yield Row(f'fpn_ca_{name}', label, f'camvid/fpn_ca_{name}', teacher=f'{table}/fpn_{name}')


CA_DEIT = 'camvid/fpn_ca_deit_t'
SIZE_320 = (
    'train_dataloader.dataset.pipeline.2.scale=(320,240)',
    'val_dataloader.dataset.pipeline.1.scale=(320,240)',
    'test_dataloader.dataset.pipeline.1.scale=(320,240)',
)
# 6 epochs at 320 x 240 instead of 12 at 400 x 300.
HALF_AS_LONG = (*SIZE_320, *_epochs(6, 4, 5))
A_QUARTER = (  # of the images: a Swin takes more than twice as long as a PVT
    'train_dataloader.batch_size=2',
    'train_cfg.max_iters=600',
    'train_cfg.val_interval=150',
    'default_hooks.checkpoint.interval=150',
    'param_scheduler.1.end=600',
)
BUDGET = ('--iters', '6000', '--block-iters', '1500')
SHORTER = ('--iters', '1500', '--train', 'all')
SHORT = ('--iters', '400')
LONG = {
    'circulant': Transfer('circulant', 'circulant', BUDGET),
    # The later blocks see other inputs than the teacher's, so they learn too.
    'hybrid': Transfer('hybrid', 'SCCSSSSSSSSS', SHORTER, (*HYBRID, *ONE_CHANNEL)),
    'linear': Transfer('linear', 'linear', BUDGET, LINEAR),
    # What the transfer does besides attention: the teacher has its class token.
    'softmax': Transfer('softmax', 'softmax', (*SHORTER, '--block-iters', '0'), SOFTMAX),
}
ABLATIONS = (
    Transfer('short', '400 iterations, default: blocks, 200 on teacher inputs, lr 5e-4', SHORT),
    Transfer('short_attention', '400 iterations, only attention', (*SHORT, '--train', 'attention')),
    Transfer('short_all', '400 iterations, all parameters', (*SHORT, '--train', 'all')),
    Transfer('short_end_to_end', '400 iterations, all end to end', (*SHORT, '--block-iters', '0')),
    Transfer(
        'short_quarter', '400 iterations, 100 on teacher inputs', (*SHORT, '--block-iters', '100')
    ),
    Transfer('short_lr', '400 iterations, lr 1.5e-3', (*SHORT, '--lr', '1.5e-3')),
)
SIZES = (
    *(
        Transfer(f'images_{n}', f'{n:,} images, 1,000 iterations', ('--iters', '1000'), images=n)
        for n in (100, 300, 1000)
    ),
    Transfer('iters_1000', 'all images, 1,000 iterations', ('--iters', '1000')),
    Transfer('iters_300', 'all images, 300 iterations', ('--iters', '300')),
    Transfer(
        'own_images',
        "CamVid's 367 training images, 1,000 iterations",
        ('--iters', '1000'),
        folder='camvid/images/training',
    ),
)
MIXTURES = {
    'heads': ('CA-DeiT-T, d = 64', HEADS_OF_SOFTMAX),
    'keyed': ('with keys', KEYED),
    'five_keyed': ('CCCCCKKKKKKK', FIVE_KEYED),
    'five_windows': ('WWWWWKKKKKKK', FIVE_WINDOWS),
    'windows': ('WWKWWKWWKWWK', WINDOWS),
    'exact_windows': ('with exact windows', EXACT_WINDOWS),
    'recommended': ('XSSXXXSXXXXK', RECOMMENDED),
    'small_windows': ('WWKWWKWWKWWK with 7 x 7 windows', SMALL_WINDOWS),
}
CALIBRATED = tuple(
    Transfer(f'{name}_calibrated', f'{label}, calibrated', ('--iters', '0'), options)
    for name, (label, options) in MIXTURES.items()
)
DISTILLED = tuple(
    Transfer(f'{name}_distilled', f'{label}, 1,000 iterations', ('--iters', '1000'), options)
    for name, (label, options) in MIXTURES.items()
)
TRANSFERS = {
    transfer.name: transfer
    for transfer in (*LONG.values(), *ABLATIONS, *SIZES, *CALIBRATED, *DISTILLED)
}
HEADS = {'fpn': 'Semantic FPN', 'upernet': 'UperNet'}
LABELS = {
    'pvt_t': 'PVT-T',
    'ca_pvt_t': 'CA-PVT-T',
    'flatten_pvt_t': 'FLatten-PVT-T',
    'swin_t': 'Swin-T',
    'ca_swin_t': 'CA-Swin-T',
    'flatten_swin_t': 'FLatten-Swin-T',
    'deit_t': 'DeiT-T',
    'ca_deit_t': 'CA-DeiT-T',
}
SWIN = ('swin_t', 'ca_swin_t', 'flatten_swin_t')
MIOU = {'mIoU': 'mIoU'}
AP = {'coco/bbox_mAP': 'box AP', 'coco/segm_mAP': 'mask AP'}
TABLES = {
    table.name: table
    for table in (
        Table(
            'camvid_scratch',
            'Semantic FPN on CamVid, trained from scratch',
            2,
            MIOU,
            (240, 320),
            tuple(_scratch([name for name in LABELS if name not in SWIN], 'fpn')),
        ),
        Table(
            'camvid_swin',
            'Swin on CamVid, trained from scratch for 600 iterations at batch size 2',
            2,
            MIOU,
            (240, 320),
            (
                *_scratch(SWIN, 'fpn', *A_QUARTER),
                *_scratch(SWIN[:2], 'upernet', *A_QUARTER),
            ),
        ),
        Table(
            'camvid_deit',
            'Semantic FPN on CamVid, from ImageNet weights of DeiT-T',
            3,
            MIOU,
            (240, 320),
            (*_from_deit('camvid', 'fpn'), *_more_on_camvid()),
            ('deit_t', 'ca_converted', 'ca_transferred', 'hybrid_transferred', 'fpn_ca_deit_t'),
        ),
        Table(
            'penn_fudan_deit',
            'Mask R-CNN on Penn-Fudan, from ImageNet weights of DeiT-T',
            3,
            AP,
            (240, 320),
            (*_from_deit('penn_fudan', 'maskrcnn', *HALF_AS_LONG), *_more_on_penn_fudan()),
            ('deit_t', 'ca_converted', 'ca_transferred', 'hybrid_transferred', 'ca_scratch'),
        ),
        Table(
            'camvid_transfer_size',
            'CA-DeiT-T on CamVid, by number of distillation images',
            2,
            MIOU,
            (240, 320),
            _by_size(),
            ('ca_converted', 'images_100', 'own_images', 'iters_1000', 'ca_transferred'),
        ),
        Table(
            'camvid_unlabeled',
            'Semantic FPN on CamVid, distilled without labels',
            2,
            MIOU,
            (240, 320),
            tuple(_unlabeled()),
        ),
    )
}
