"""Recommend attention of O(N log N) for the stages of a softmax network, and count the savings."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor

from mmca.analysis.block_shares import BlockShare, measure_blocks
from mmca.analysis.flops import block_macs, count_flops
from mmca.analysis.mixtures import Mixture, replacement_letters, search_mixtures
from mmca.analysis.trained_backbone import backbone_settings, softmax_backbone
from mmca.backbones.catalog import start_settings
from mmca.checkpoint import read_checkpoint

PARTS = {'circulant': 'tab:green', 'columns': 'tab:orange', 'both': 'tab:blue'}


@dataclass(frozen=True)
class Recommendation:
    """Where a softmax backbone does not need softmax attention, with savings and errors.

    Attributes:
        loss: see :func:`analyze`.
        blocks: in the order of the forward pass.
        macs: letter -> path of a block -> its multiply-adds, for 'S' and all replacements.
        path: from softmax in all stages, see :func:`mmca.analysis.mixtures.search_mixtures`.
        options: the settings that `best` adds to the config's backbone.
    """

    loss: float
    blocks: list[BlockShare]
    macs: dict[str, dict[str, int]]
    path: list[Mixture]
    options: dict

    @property
    def best(self) -> Mixture:
        """The recommended mixture."""
        return _cheapest(self.path, self.loss)

    def rows(self) -> list[dict]:
        """All figures of every block as plain data."""
        rows = []
        for block in self.blocks:
            macs = {letter: by_path[block.path] for letter, by_path in self.macs.items()}
            rows.append({**asdict(block), 'attn': self.best.attn[block.stage], 'macs': macs})
        return rows

    def plot(self, title: str) -> Figure:
        """Plot the explained shares of all blocks, and the errors and multiply-adds of the path."""
        blocks, places = self.blocks, range(len(self.blocks))
        figure = Figure(figsize=(max(6, 1.5 + 0.55 * len(blocks)), 8), layout='constrained')
        upper, lower = figure.subplots(2)
        for shift, (part, color) in enumerate(PARTS.items(), -1):
            shares = [getattr(block, part) for block in blocks]
            upper.bar([i + 0.27 * shift for i in places], shares, 0.27, color=color, label=part)
        heads = [(i + 0.27, share) for i in places for share in blocks[i].both_by_head]
        upper.plot(*zip(*heads), '.', color='black', ms=4, label='single heads')
        entropies = [block.entropy for block in blocks]
        upper.plot(places, entropies, '--', color='tab:gray', label='entropy / log N')
        names = [f'{block.path}: {self.best.attn[block.stage]}' for block in blocks]
        upper.set_xticks(places, names, rotation=45, ha='right', fontsize=8)
        upper.set(ylim=(0, 1.05), ylabel='explained share; entropy')
        upper.set_title(title, fontsize=9)
        upper.legend(fontsize=8, loc='upper left', bbox_to_anchor=(1, 1))
        giga, errors = [mixture.macs / 1e9 for mixture in self.path], [m.error for m in self.path]
        lower.plot(giga, errors, 'o-', color='tab:blue', label='path')
        lower.plot(self.best.macs / 1e9, self.best.error, 'o', color='tab:red', label='recommended')
        lower.axhline(self.loss, color='tab:red', linewidth=0.8, linestyle=':', label='--loss')
        for mixture, x, y in zip(self.path, giga, errors):
            place = {'textcoords': 'offset points', 'ha': 'right', 'fontsize': 7}
            lower.annotate(mixture.attn, (x, y), (-6, 3), **place)
        lower.margins(x=0.2)
        lower.invert_xaxis()
        lower.set(xlabel='multiply-adds of the backbone (G)', ylabel='relative error of its maps')
        lower.legend(fontsize=8, loc='upper left')
        return figure


def analyze(
    cfg: Config,
    checkpoint: str,
    images: Iterable[Tensor],
    loss: float = 0.5,
    shape: tuple[int, int] = (224, 224),
) -> Recommendation:
    """Measure a config's softmax backbone on images, and recommend an `attn`.

    Args:
        cfg: config with a backbone of mmca, whose softmax original is measured.
        checkpoint: file of softmax weights.
        images: as for :func:`mmca.analysis.measure_blocks`, for instance from
            `mmca.analysis.images.middle_views`.
        loss: the largest `error` of a recommended :class:`mmca.analysis.mixtures.Mixture`.
        shape: (H, W) of the image for which multiply-adds are counted.

    Raises:
        InputError: unreadable file, weights of another model, or images too large for N x N
            matrices.
    """
    settings, images = backbone_settings(cfg), list(images)
    blocks = measure_blocks(softmax_backbone(settings, checkpoint), images)
    content = read_checkpoint(checkpoint)
    macs, by_stage = {}, {}
    with torch.device('meta'):  # only shapes matter
        image = torch.empty(1, 3, *shape)
        for letter in (*replacement_letters(settings), 'S'):
            started = start_settings({**settings, 'attn': letter}, content)
            model = MODELS.build(started).eval()
            macs[letter] = block_macs(model, image)
            by_stage[letter] = [0] * model.num_stages
            for block in blocks:
                by_stage[letter][block.stage] += macs[letter][block.path]
        total = count_flops(model, image).macs
    path = search_mixtures(settings, checkpoint, images, by_stage, total)
    chosen = {**settings, 'attn': _cheapest(path, loss).attn}
    options = start_settings(chosen, content)
    options = {key: value for key, value in options.items() if settings.get(key) != value}
    return Recommendation(loss, blocks, macs, path, options)


def _cheapest(path: list[Mixture], loss: float) -> Mixture:
    return min((m for m in path if m.error <= loss), key=lambda mixture: mixture.macs)
