"""The images of a data set that are looked at before training, by their headers alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmengine.registry import TRANSFORMS

from mmca.errors import InputError
from mmca.checks.faults import Faults
from mmca.checks.guard import classes_of
from mmca.checks.images import UPSIDE_DOWN, Header, find_absent, read_header
from mmca.checks.label_maps import read_label_map

if TYPE_CHECKING:
    from mmca.checks.data import Split

MAX_SAMPLES = 64  # files looked at per data set
TURNS = ('color', 'grayscale')  # color types with which images are turned by their EXIF data


def check_files(split: Split, infos: list[dict], sample: bool = True) -> None:
    """Check that all files are there, and look into some of them.

    Args:
        split: a data set.
        infos: its entries.
        sample: look into some files.

    Raises:
        InputError: the first thing that is wrong.
    """
    for key, what in (('img_path', 'image'), ('seg_map_path', 'label map')):
        listed = [info for info in infos if isinstance(info.get(key), str)]
        absent = find_absent(info[key] for info in listed)
        if not absent:
            continue
        if key == 'img_path':
            first = f'{split.dataset.ann_file} lists an image that is not there: {absent[0]}'
        else:
            owner = next(info for info in listed if info[key] == absent[0])
            first = f'no label map {absent[0]} for {owner["img_path"]}'
        raise InputError(
            f'{split.key}: {first} ({len(absent)} of {len(listed)} {what}s are absent); '
            'put them there, or take them out of the data set'
        )
    if sample:
        _look_into_some(split, infos)


def _look_into_some(split: Split, infos: list[dict]) -> None:
    chosen = _sample(infos)
    load, classes, faults = _label_loader(split), classes_of(split.dataset), Faults()
    for index, info in enumerate(chosen):
        try:
            header = header_of(split.cfg, info)
            if header is not None:
                check_sizes(info, header, split.cfg)
                for fault in header.faults:
                    faults.add(fault, index)
            if load is not None and classes is not None:
                read_label_map(info, load, classes, header)
        except InputError as error:
            raise InputError(f'{split.key}: {error}') from error
    name = lambda index: chosen[index]['img_path']  # noqa: E731
    faults.report(split.key, 'images looked at', len(chosen), name)


def header_of(cfg: dict, info: dict) -> Header | None:
    """Look at the header of an entry's image.

    Args:
        cfg: of the data set.
        info: the entry.

    Returns:
        The header; None where the pipeline does not read an image file by `LoadImageFromFile`, or
        the format is unknown here.

    Raises:
        InputError: it is no image, or truncated.
    """
    step = _step(cfg, 'LoadImageFromFile')
    if step is None:
        return None
    header = read_header(info['img_path'], step.get('color_type', 'color') in TURNS)
    if header is not None and 'gt_label' in info:  # a class stays what it is when turned
        faults = tuple(fault for fault in header.faults if fault is not UPSIDE_DOWN)
        header = Header(header.stored, header.seen, faults)
    return header


def check_sizes(info: dict, header: Header, cfg: dict) -> None:
    """Compare the size that a COCO file gives an image with the file's own.

    Args:
        info: the entry.
        header: of its image.
        cfg: of the data set.

    Raises:
        InputError: they differ.
    """
    if 'width' not in info or (info['width'], info['height']) == header.seen:
        return
    listed = f'{info["width"]} x {info["height"]}'
    seen = f'{header.seen[0]} x {header.seen[1]}'
    what = (
        f'image id {info.get("img_id")!r} is listed as {listed}, but {info["img_path"]} is {seen}'
    )
    if (info['width'], info['height']) == header.stored:
        index = cfg['pipeline'].index(_step(cfg, 'LoadImageFromFile'))
        raise InputError(
            f'{what} after its EXIF orientation; where boxes mean the pixels as stored, set '
            f'pipeline.{index}.color_type=color_ignore_orientation, otherwise correct the size'
        )
    raise InputError(f'{what}; correct width and height in the file, and boxes and masks with them')


def _label_loader(split: Split):
    step = _step(split.cfg, 'LoadAnnotations')
    return None if step is None else TRANSFORMS.build(step)


def _step(cfg: dict, name: str) -> dict | None:
    """The first step of a pipeline of that type."""
    steps = (step for step in cfg.get('pipeline', []) if isinstance(step, dict))
    return next((s for s in steps if str(s.get('type')).split('.')[-1] == name), None)


def _sample(items: list[dict]) -> list[dict]:
    count = min(len(items), MAX_SAMPLES)
    return [items[index * (len(items) - 1) // max(count - 1, 1)] for index in range(count)]
