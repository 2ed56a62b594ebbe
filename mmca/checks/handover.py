"""What was built for the checks, given to the run that would build it again; data sets guarded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import TYPE_CHECKING

from mmca.errors import InputError
from mmca.checks.guard import guard

if TYPE_CHECKING:
    from mmengine.config import ConfigDict
    from mmengine.dataset import BaseDataset
    from pycocotools.coco import COCO


@contextmanager
def handed_over(
    library: str,
    prepared: list[tuple[ConfigDict, BaseDataset]],
    parsed: dict[str, COCO],
) -> Iterator[None]:
    """Let `DATASETS.build` return a prepared data set for an equal config, each of them once.

    A config that the library's tool has changed meanwhile is not equal, and built anew. All data
    sets that are built get a :class:`mmca.checks.guard.GuardedPipeline`. mmdet's
    `CocoMetric` gets the COCO files that were parsed.

    Args:
        library: 'mmdet', 'mmseg' or 'mmpretrain'.
        prepared: configs of data sets and what was built from them.
        parsed: the real path of a COCO file -> what it holds.
    """
    from mmengine.registry import DATASETS

    remaining = list(prepared)

    def first_ask(build: Callable) -> Callable:
        def take_or_build(cfg: dict, *args: object, **kwargs: object) -> object:
            index = next((i for i, (own, _) in enumerate(remaining) if cfg == own), None)
            if index is None:
                dataset = build(cfg, *args, **kwargs)
            else:
                _, dataset = remaining.pop(index)
            guard(dataset)
            return dataset

        return take_or_build

    # Runners and mmengine's wrappers of data sets ask the first, the library's wrappers the second.
    registries = DATASETS, import_module(f'{library}.registry').DATASETS
    builds = [registry.build_func for registry in registries]
    for registry, build in zip(registries, builds, strict=True):
        registry.build_func = first_ask(build)
    try:
        with _parsed_for_metric(parsed) if library == 'mmdet' else nullcontext():
            yield
    finally:
        for registry, build in zip(registries, builds, strict=True):
            registry.build_func = build


@contextmanager
def _parsed_for_metric(parsed: dict[str, COCO]) -> Iterator[None]:
    """Let mmdet's `CocoMetric` take what is parsed already; what it cannot parse is an error."""
    module = import_module('mmdet.evaluation.metrics.coco_metric')
    parse = module.COCO

    def take_or_parse(path: str) -> COCO:
        known = parsed.pop(os.path.realpath(path), None)
        if known is not None:
            return known
        try:
            return parse(path)
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f'evaluator: {path} is no COCO annotation file: {type(error).__name__} {error}'
            ) from error

    module.COCO = take_or_parse
    try:
        yield
    finally:
        module.COCO = parse
