"""What is compared with what: the rows of every table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

HYBRID = 'model.backbone.attn=CCCCSSSSSSSS'  # what `mmca analyze` recommends for DeiT-T
SCRATCH, CONVERTED, TRANSFERRED = 'scratch', 'converted', 'transferred'


@dataclass(frozen=True)
class Row:
    """One model of a table.

    Attributes:
        name: names its files.
        label: names it in the table.
        config: a shipped config.
        start: 'scratch'; 'converted', from the softmax weights as `init_cfg` converts them; or
            'transferred', from what `mmca transfer` makes of them.
        options: `--cfg-options`.
    """

    name: str
    label: str
    config: str
    start: str = SCRATCH
    options: tuple[str, ...] = ()


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
    """

    name: str
    title: str
    seeds: int
    metrics: dict[str, str]
    shape: tuple[int, int]
    rows: tuple[Row, ...]


def _scratch(names: Sequence[str], head: str) -> Iterator[Row]:
    for name in names:
        yield Row(f'{head}_{name}', f'{LABELS[name]}, {HEADS[head]}', f'camvid/{head}_{name}')


def _from_deit(folder: str, head: str) -> tuple[Row, ...]:
    circulant, softmax = f'{folder}/{head}_ca_deit_t', f'{folder}/{head}_deit_t'
    linear = ('model.backbone.attn=L',)
    return (
        Row('deit_t', 'DeiT-T (softmax)', softmax, CONVERTED),
        Row('ca_scratch', 'CA-DeiT-T from scratch', circulant),
        Row('ca_converted', 'CA-DeiT-T, converted', circulant, CONVERTED),
        Row('ca_transferred', 'CA-DeiT-T, transferred', circulant, TRANSFERRED),
        Row('hybrid_converted', 'CCCCSSSSSSSS, converted', circulant, CONVERTED, (HYBRID,)),
        Row('hybrid_transferred', 'CCCCSSSSSSSS, transferred', circulant, TRANSFERRED, (HYBRID,)),
        Row('linear_converted', 'Linear attention, converted', circulant, CONVERTED, linear),
        Row('linear_transferred', 'Linear attention, transferred', circulant, TRANSFERRED, linear),
    )


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
MIOU = {'mIoU': 'mIoU'}
AP = {'coco/bbox_mAP': 'box AP', 'coco/segm_mAP': 'mask AP'}
TABLES = {
    table.name: table
    for table in (
        Table(
            'camvid_scratch',
            'CamVid from scratch',
            2,
            MIOU,
            (240, 320),
            (*_scratch(list(LABELS), 'fpn'), *_scratch(('swin_t', 'ca_swin_t'), 'upernet')),
        ),
        Table(
            'camvid_deit',
            'CamVid from ImageNet DeiT-T, Semantic FPN',
            3,
            MIOU,
            (240, 320),
            _from_deit('camvid', 'fpn'),
        ),
        Table(
            'penn_fudan_deit',
            'Penn-Fudan from ImageNet DeiT-T, Mask R-CNN',
            3,
            AP,
            (300, 400),
            _from_deit('penn_fudan', 'maskrcnn'),
        ),
    )
}
