"""Recommend stages for circulant attention from softmax weights, and count the savings."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor

from mmca.analysis.circulant_share import BlockShare, measure_blocks, recommend
from mmca.analysis.flops import block_macs, count_flops
from mmca.analysis.trained_backbone import backbone_settings, softmax_backbone, softmax_settings

BARS = {'C': ('tab:green', 'recommended circulant'), 'S': ('tab:gray', 'recommended softmax')}


@dataclass(frozen=True)
class Recommendation:
    """Where a softmax backbone can be circulant, and what that saves.

    Attributes:
        attn: `attn` of the backbone, one letter per stage.
        threshold: see :func:`analyze`.
        blocks: in the order of the forward pass.
        macs: 'softmax' and 'circulant' -> path of a block -> its multiply-adds.
        totals: 'S', 'C' and `attn` -> multiply-adds of the whole backbone.
    """

    attn: str
    threshold: float
    blocks: list[BlockShare]
    macs: dict[str, dict[str, int]]
    totals: dict[str, int]

    def rows(self) -> list[dict]:
        """All figures of every block, as plain data."""
        rows = []
        for block in self.blocks:
            macs = {kind: by_path[block.path] for kind, by_path in self.macs.items()}
            rows.append({**asdict(block), 'attn': self.attn[block.stage], 'macs': macs})
        return rows

    def plot(self, title: str) -> Figure:
        """Plot the explained share of every block with the random baseline, and the entropy."""
        blocks, places = self.blocks, range(len(self.blocks))
        figure = Figure(figsize=(max(6, 1.5 + 0.55 * len(blocks)), 4.5), layout='constrained')
        axes = figure.add_subplot()
        for letter, (color, label) in BARS.items():
            chosen = [i for i in places if self.attn[blocks[i].stage] == letter]
            if chosen:
                axes.bar(chosen, [blocks[i].explained for i in chosen], color=color, label=label)
        heads = [(i, share) for i in places for share in blocks[i].explained_by_head]
        axes.plot(*zip(*heads, strict=True), '.', color='black', ms=4, label='single heads')
        random, entropies = [b.random for b in blocks], [b.entropy for b in blocks]
        axes.plot(places, random, 'x', color='tab:red', label='shuffled rows')
        axes.plot(places, entropies, '--', color='tab:blue', label='entropy / log N')
        axes.axhline(self.threshold, color='tab:green', linewidth=0.8, linestyle=':')
        axes.set_xticks(places, [b.path for b in blocks], rotation=45, ha='right', fontsize=8)
        axes.set(ylim=(0, 1.05), ylabel='explained share; entropy')
        axes.set_title(title, fontsize=9)
        axes.legend(fontsize=8, loc='upper left', bbox_to_anchor=(1, 1))
        return figure


def analyze(
    cfg: Config,
    checkpoint: str,
    images: Iterable[Tensor],
    threshold: float = 0.6,
    shape: tuple[int, int] = (224, 224),
) -> Recommendation:
    """Measure a config's softmax backbone on images, and recommend an `attn`.

    Args:
        cfg: config with a backbone of mmca, whose softmax original is measured.
        checkpoint: file of softmax weights.
        images: as for :func:`mmca.analysis.measure_blocks`, for instance from
            `mmca.analysis.images.middle_views`.
        threshold: the smallest `explained` of a circulant stage, from 0 to 1.
        shape: (H, W) of the image for which multiply-adds are counted.

    Raises:
        InputError: unreadable file, weights of another model, or images too large for N x N
            matrices.
    """
    settings = backbone_settings(cfg)
    blocks = measure_blocks(softmax_backbone(settings, checkpoint), images)
    attn = recommend(blocks, threshold)
    common = {'attn_cfg': settings.get('attn_cfg'), **softmax_settings(settings)}
    macs, totals = {}, {}
    with torch.device('meta'):  # only shapes matter
        image = torch.empty(1, 3, *shape)
        for name in dict.fromkeys(('S', 'C', attn)):
            model = MODELS.build({**common, 'attn': name}).eval()
            totals[name] = count_flops(model, image).macs
            if kind := {'S': 'softmax', 'C': 'circulant'}.get(name):
                macs[kind] = block_macs(model, image)
    return Recommendation(attn, threshold, blocks, macs, totals)
