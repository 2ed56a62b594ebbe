"""Reading each image of the data sets, with its annotations, as training would."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from mmca.errors import InputError
from mmca.checks.data import Split
from mmca.checks.faults import Fault, Faults
from mmca.checks.guard import LIST_ALL, GuardedPipeline, classes_of, loading_steps
from mmca.checks.label_maps import check_depth
from mmca.checks.sample import check_sizes, header_of

if TYPE_CHECKING:
    from mmengine.dataset import BaseDataset

IN_ONE_PROCESS = 200  # images, below which starting others takes longer than reading
MOST_PROCESSES = 8


def read_every_image(splits: list[Split]) -> None:
    """Decode all images, masks and label maps that training uses, and print those that fail.

    Args:
        splits: their data sets are ready.

    Raises:
        InputError: how many failed; each of them is printed.
    """
    from mmengine.utils import track_progress_rich

    failed, total = Counter(), 0
    for split in splits:
        dataset = split.dataset
        steps = loading_steps(dataset.pipeline.transforms)
        if not steps or not len(dataset):
            continue
        results = track_progress_rich(
            partial(_read, split.cfg, GuardedPipeline(steps, classes_of(dataset))),
            _entries(dataset),
            task_num=len(dataset),
            nproc=_processes(len(dataset)),
            chunksize=8,
            description=split.key,
        )
        faults = Faults()
        for index, (problem, unusual) in enumerate(results):
            if problem:
                failed[split.key] += 1
                print(f'{split.key}: {problem}')
            for fault in unusual:
                faults.add(fault, index)
        total += len(results)
        name = lambda index, dataset=dataset: dataset.get_data_info(index)['img_path']  # noqa: E731
        faults.report(split.key, 'images', len(results), name)
    if failed:
        places = ', '.join(f'{count} of {key}' for key, count in failed.items())
        raise InputError(
            f'{failed.total()} of {total} images cannot be used, see above: {places}; '
            'replace them, or take them out of the data set'
        )


def _entries(dataset: BaseDataset) -> Iterator[tuple[dict]]:
    for index in range(len(dataset)):
        yield (dataset.get_data_info(index),)


def _processes(images: int) -> int:
    return 1 if images < IN_ONE_PROCESS else min(MOST_PROCESSES, os.cpu_count() or 1)


def _read(cfg: dict, pipeline: GuardedPipeline, info: dict) -> tuple[str, tuple[Fault, ...]]:
    """What is wrong with one image, '' for nothing, and what is unusual about it."""
    try:
        header = header_of(cfg, info)
        if header is not None:
            check_sizes(info, header, cfg)
        if pipeline.classes is not None and os.path.exists(info['seg_map_path']):
            check_depth(info['seg_map_path'])
        pipeline(info)
    except InputError as error:
        return str(error).removesuffix(f'; {LIST_ALL}'), ()
    return '', header.faults if header is not None else ()
