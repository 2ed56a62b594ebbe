"""Data sets that were built for the checks, given to the run that would build them again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmengine.config import ConfigDict
    from mmengine.dataset import BaseDataset


@contextmanager
def handed_over(library: str, prepared: list[tuple[ConfigDict, BaseDataset]]) -> Iterator[None]:
    """Let `DATASETS.build` return a prepared data set for an equal config, each of them once.

    A config that the library's tool has changed meanwhile is not equal, and built anew.

    Args:
        library: 'mmdet', 'mmseg' or 'mmpretrain'.
        prepared: configs of data sets and what was built from them.
    """
    from mmengine.registry import DATASETS

    remaining = list(prepared)

    def first_ask(build: Callable) -> Callable:
        def take_or_build(cfg: dict, *args: object, **kwargs: object) -> object:
            for index, (own, dataset) in enumerate(remaining):
                if cfg == own:
                    del remaining[index]
                    return dataset
            return build(cfg, *args, **kwargs)

        return take_or_build

    # Runners and mmengine's wrappers of data sets ask the first, the library's wrappers the second.
    registries = DATASETS, import_module(f'{library}.registry').DATASETS
    builds = [registry.build_func for registry in registries]
    for registry, build in zip(registries, builds, strict=True):
        registry.build_func = first_ask(build)
    try:
        yield
    finally:
        for registry, build in zip(registries, builds, strict=True):
            registry.build_func = build
