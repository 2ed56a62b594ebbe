"""All checks of one run, in their order."""

from __future__ import annotations

import os
from argparse import Namespace
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mmca.checks import checkpoint as checkpoints
from mmca.checks.annotations import check_annotations
from mmca.checks.channels import check_channels
from mmca.checks.classifier import classifier_weights
from mmca.checks.data import (
    EVALUATORS,
    LOADERS,
    Split,
    check_evaluator,
    check_paths,
    open_splits,
)
from mmca.checks.keys import check_keys
from mmca.config.models import build_on_meta, class_counts
from mmca.checks.numbers import check_numbers

if TYPE_CHECKING:
    from mmengine.config import Config, ConfigDict
    from mmengine.dataset import BaseDataset
    from pycocotools.coco import COCO
    from torch import Tensor, nn


@dataclass
class Findings:
    """What the checks found.

    Attributes:
        summary: what will run, in one line.
        splits: the data sets, read.
        checkpoint: the file or address that the run will read, or None.
        counts: how many of its tensors the model has, in words; '' for an address or none.
        model: for names and shapes alone, or None where nothing asked for it.
        renamed: the weights of a third-party classifier under the model's names, or None.
    """

    summary: str
    splits: list[Split] = field(default_factory=list)
    checkpoint: str | None = None
    counts: str = ''
    model: nn.Module | None = None
    renamed: dict[str, Tensor] | None = None

    @property
    def parsed(self) -> dict[str, COCO]:
        """COCO files that the evaluator would parse again, for the same function."""
        return {os.path.realpath(s.dataset.ann_file): s.coco for s in self.splits if s.coco}

    @property
    def prepared(self) -> list[tuple[ConfigDict, BaseDataset]]:
        """Configs and data sets, for :func:`mmca.checks.handed_over`."""
        return [(split.cfg, split.dataset) for split in self.splits]


def takes_third_party(tool: str, library: str) -> bool:
    """Whether a run reads third-party checkpoints of whole models: tests of classifiers do."""
    return (tool, library) == ('test', 'mmpretrain')


def check(
    tool: str,
    args: Namespace,
    cfg: Config,
    library: str,
    work_dir: str,
    build_model: bool = False,
    images: bool = False,
) -> Findings:
    """Check data, classes and checkpoint.

    Args:
        tool: 'train' or 'test'.
        args: the parsed command line.
        cfg: the config with its options merged.
        library: 'mmdet', 'mmseg' or 'mmpretrain'.
        work_dir: where logs and checkpoints go.
        build_model: build the model also where there is no checkpoint to compare it with.
        images: the caller goes through all images, so none is looked into here.

    Returns:
        What was found.

    Raises:
        InputError: whatever the user has to fix first.
    """
    from mmengine.registry import DefaultScope

    loaders = LOADERS[tool][:1] if vars(args).get('no_validate') else LOADERS[tool]
    found = Findings('')
    with DefaultScope.overwrite_default_scope(library):
        check_keys(cfg, tool)
        check_numbers(cfg, library)
        found.splits = open_splits(cfg, library, loaders)
        check_paths(cfg, found.splits)
        check_evaluator(cfg, EVALUATORS[tool], found.splits)
        heads = class_counts(cfg.model, library)
        check_annotations(cfg, library, found.splits, heads, sample=not images)
        found.checkpoint = checkpoints.checkpoint_of(tool, args, cfg, work_dir)
        local = found.checkpoint is not None and '://' not in found.checkpoint
        if local or build_model:
            found.model = build_on_meta(cfg.model)
            check_channels(cfg.model, found.model)
        if local and takes_third_party(tool, library):
            found.renamed = classifier_weights(found.checkpoint, found.model)
        if local and found.renamed is None:
            use = 'test'
            if tool == 'train':
                use = 'resume' if checkpoints.resumes(args, cfg) else 'start'
            found.counts = checkpoints.check_checkpoint(found.checkpoint, found.model, use)
    images = sum(split.images for split in found.splits if split.key.startswith(loaders[0]))
    classes = len(found.splits[0].classes) if found.splits else 'unknown'
    found.summary = (
        f'{library} {tool}: {args.config}, work dir {work_dir}, {images} {tool} images, '
        f'{classes} class{"es" * (classes != 1)}'
    )
    return found
