"""`mmca config --data`: look into a folder, choose, write a config, check it."""

from __future__ import annotations

import io
import shlex
from argparse import Namespace
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path

from mmca.config.own_data.choice import Choice, choose
from mmca.config.own_data.coco import describe_others, find_coco
from mmca.config.own_data.found import Found
from mmca.config.own_data.label_maps import find_label_maps
from mmca.config.own_data.text import config_text
from mmca.io import atomic_write
from mmca.config.reader import load_config
from mmca.errors import InputError

MIN_SIDE = 32  # of an image, in pixels
SHOWN = 20  # classes in the table


def write_config(args: Namespace) -> int:
    """Write a config for the folder `args.data`; returns the exit code.

    Raises:
        InputError: there is no known data set, or the config's checks fail; nothing is left then.
    """
    root = Path(args.data)
    config = Path(args.out or f'{root.resolve().name}.py')
    if config.suffix != '.py':
        raise InputError(f'{config}: the name of a config must end in .py')
    _refuse_existing(config)
    if args.cfg_options:
        raise InputError('--cfg-options goes with --print or --copy; with --data, edit the config')
    for name, least in (('epochs', 1), ('batch_size', 1), ('size', MIN_SIDE)):
        value = vars(args)[name]
        if value is not None and min(value if name == 'size' else [value]) < least:
            raise InputError(f'--{name.replace("_", "-")} {value}: must be at least {least}')
    found = _find(root, args, config)
    choice = choose(found, args)
    files = {
        Path(split.listing): split.content
        for split in found.splits.values()
        if split.content is not None
    }
    for path in files:
        _refuse_existing(path)
    files[config] = config_text(found, choice, load_config(choice.base), _command(args))
    try:
        for path, text in files.items():
            _write(path, text)
        _check(config)
    except BaseException:
        for path in files:
            path.unlink(missing_ok=True)
        raise
    _report(found, choice, config)
    return 0


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise InputError(f'{path} is there already: choose another name with --out')


def _find(root: Path, args: Namespace, config: Path) -> Found:
    named = {split: vars(args)[split] for split in ('train', 'val') if vars(args)[split]}
    found = find_coco(root, named, config) or find_label_maps(root, args.classes, config)
    if found is None:
        raise InputError(
            f'{root} has neither a COCO file nor images with label maps of the same names'
            f'{describe_others(root)}'
        )
    return found


def _command(args: Namespace) -> str:
    """The command line, as the user could type it again."""
    words = ['mmca', 'config', '--data', args.data]
    for name in ('model', 'backbone', 'weights', 'classes', 'train', 'val', 'device'):
        if vars(args)[name] is not None:
            words += [f'--{name}', vars(args)[name]]
    for name in ('epochs', 'batch_size'):
        if vars(args)[name] is not None:
            words += [f'--{name.replace("_", "-")}', str(vars(args)[name])]
    if args.size is not None:
        words += ['--size', *map(str, args.size)]
    return shlex.join(words)


def _write(path: Path, text: str) -> None:
    try:
        with atomic_write(path, 'w') as file:
            file.write(text)
    except OSError as error:
        raise InputError(f'cannot write {path}: {error.strerror}') from error


def _check(config: Path) -> None:
    """The checks that precede training."""
    from mmca.cli.check import checked

    flags = {'cfg_options': [], 'resume': None, 'load_from': None, 'work_dir': None}
    with redirect_stdout(io.StringIO()):  # the libraries tell of every step
        checked(Namespace(config=str(config), images=False, **flags))


def _report(found: Found, choice: Choice, config: Path) -> None:
    what = {'masks': 'objects with masks', 'boxes': 'objects with boxes', 'labels': 'label maps'}
    print(f'{found.root}: {what[found.task]}, classes: {len(found.classes)}')
    counted = 'label maps' if found.task == 'labels' else 'objects'
    rows = [('split', 'images', counted, 'images in', 'listed in')]
    for name, split in found.splits.items():
        number = split.number if found.task == 'labels' else sum(split.objects.values())
        place = split.images or '.'
        listed = split.listing or f'all with a label map in {split.labels}'
        rows.append((name, str(split.number), str(number), place, listed))
    _print_table(rows)
    print()
    title = 'label maps with it' if found.task == 'labels' else 'objects'
    rows = [(f'class ({title})', *found.splits)]
    for name in found.classes[:SHOWN]:
        rows.append((name, *(str(split.objects[name]) for split in found.splits.values())))
    _print_table(rows)
    if len(found.classes) > SHOWN:
        print(f'and {len(found.classes) - SHOWN} more')
    print()
    _print_table(choice.reasons.items())
    for note in found.notes:
        print(f'note: {note}')
    name = config.stem
    last = f'iter_{choice.iterations}' if found.task == 'labels' else f'epoch_{choice.epochs}'
    flags = '' if choice.lr else ' --amp --auto-scale-lr'
    checkpoint = f'work_dirs/{name}/{last}.pth'
    images = found.splits.get('test', found.splits['val']).images
    print(
        f'\nwrote {config}; its checks passed\n'
        f'  mmca train {config}{flags}\n'
        f'  mmca test {config} {checkpoint}\n'
        f'  mmca predict {config} {checkpoint} {found.root / images} --out predictions'
    )


def _print_table(rows: Iterable[Sequence[str]]) -> None:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print('  '.join(cells).rstrip())
