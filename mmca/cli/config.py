"""List, print or copy shipped configs, or write a config for your data or backbone.

With --data, inspect a data set, write a config with a training recipe and explain its choices.
With CONFIG and --backbone, write a config that replaces the backbone of CONFIG, which can be any
detector, segmentor or classifier of mmdet, mmseg or mmpretrain.
With only CONFIG, print its path.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from mmca.cli.arguments import CONFIG_HELP, WEIGHTS_HELP, add_cfg_options
from mmca.cli.table import print_table
from mmca.config.adaptation import plan
from mmca.config.config_writer import write, write_adapted, write_new, write_starter
from mmca.config.dataset_info import inspect_folder
from mmca.config.folders import DatasetInfo
from mmca.config.packages import FULL_STACK, require
from mmca.config.reader import load_config, read_config
from mmca.config.recipe import HEADS, Recipe, choose
from mmca.config.shipped import FOLDERS, find_config, shipped_models
from mmca.errors import InputError

REQUIRES = ('mmengine',)
EPILOG = """\
examples:
  %(prog)s --list swin
  %(prog)s --data data/fruits --weights imagenet --epochs 50 --out my_config.py
  %(prog)s mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py --backbone ca_swin_t --out dino.py
  %(prog)s coco/maskrcnn_ca_pvt_s --print
  %(prog)s coco/maskrcnn_ca_pvt_s --inherit my_config.py
  %(prog)s coco/maskrcnn_ca_pvt_s --copy standalone.py --cfg-options train_cfg.max_epochs=36

Configs from --inherit and --data work wherever mmca is installed, because their first line is
  _base_ = __import__('mmca').find_config('coco/maskrcnn_ca_pvt_s')"""
ADAPTATION = ('out', 'backbone', 'weights')
INSPECTION = ('train', 'val', 'classes')
CHOICES = ('model', 'backbone', 'weights', 'size', 'epochs', 'batch_size', 'device')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('config', nargs='?', metavar='CONFIG', help=CONFIG_HELP)
    actions = parser.add_mutually_exclusive_group()
    word = 'list the shipped configs; with WORD, only matching names, models or backbones'
    actions.add_argument('--list', nargs='?', const='', metavar='WORD', help=word)
    actions.add_argument('--print', action='store_true', help='print CONFIG merged with its bases')
    actions.add_argument('--copy', metavar='FILE', help='write a standalone copy of CONFIG')
    actions.add_argument('--inherit', metavar='FILE', help='write a short config based on CONFIG')
    folder = 'write a config for a folder of images with COCO files or label maps'
    actions.add_argument('--data', metavar='DIR', help=folder)
    add_cfg_options(parser)
    backbone = 'name of a backbone as in shipped configs, e.g. ca_swin_t'
    parser.add_argument('--backbone', metavar='NAME', help=backbone)
    weights = f"{WEIGHTS_HELP}, or 'imagenet' for weights that fit"
    parser.add_argument('--weights', metavar='NAME', help=weights)
    out = 'output file; default DIR.py, or CONFIG_BACKBONE.py'
    parser.add_argument('--out', metavar='FILE', help=out)
    keep = "with --backbone, keep CONFIG's optimizer and warm-up"
    parser.add_argument('--keep-recipe', action='store_true', help=keep)
    data = parser.add_argument_group('options that override choices of --data')
    data.add_argument('--model', choices=HEADS, help='kind of detector or segmentor')
    data.add_argument('--size', nargs=2, type=int, metavar=('W', 'H'), help='image size in pixels')
    data.add_argument('--epochs', type=int, help='number of epochs')
    data.add_argument('--batch-size', type=int, help='images per iteration and device')
    data.add_argument('--device', choices=('cpu', 'cuda'), help='default: a GPU if available')
    data.add_argument('--train', metavar='FILE', help='COCO file to train on')
    data.add_argument('--val', metavar='FILE', help='COCO file to validate on')
    classes = 'class names of the label maps in order, or a file with one per line'
    data.add_argument('--classes', metavar='A,B', help=classes)


def run(args: argparse.Namespace) -> int:
    adapts = args.config is not None and args.backbone is not None and args.data is None
    used = [name for name in ('out', *CHOICES, *INSPECTION) if getattr(args, name) is not None]
    used = [name for name in used if not (adapts and name in ADAPTATION)]
    if used and args.data is None:
        raise InputError(
            f'--{used[0].replace("_", "-")} requires --data'
            + (', or CONFIG and --backbone' if used[0] in ADAPTATION and not adapts else '')
        )
    if args.keep_recipe and not adapts:
        raise InputError('--keep-recipe requires CONFIG and --backbone')
    if args.cfg_options and not (args.print or args.copy):
        raise InputError('--cfg-options requires --print or --copy')
    if args.config is None and args.data is None and args.list is None:
        raise InputError('name a config, or use --list')
    if args.config is not None and args.list is not None:
        raise InputError(f'{args.config}: --list lists all configs; use --list WORD')
    for action in ('print', 'copy', 'inherit'):
        if adapts and getattr(args, action):
            raise InputError(f'--{action} has no effect with --backbone, which writes to --out')
    out = args.data and (args.out or f'{Path(args.data).resolve().name}.py')
    if adapts:
        out = args.out or f'{Path(args.config.rpartition("::")[2]).stem}_{args.backbone}.py'
    out = out or args.copy or args.inherit
    if out and not out.endswith('.py'):
        raise InputError(f'{out}: the name of a config must end in .py')
    if adapts:
        _write_adapted(args, out)
    elif args.data is not None:
        _write_for_data(args, Path(out))
    elif args.list is not None:
        _print_list(args.list)
    elif args.inherit:
        write_starter(args.config, out)
    elif args.copy:  # {{$MMCA_DATA_ROOT:data}} stays
        cfg = read_config(args.config, args.cfg_options, environment=False)
        write_new({Path(out): cfg.pretty_text})
    elif args.print:
        print(read_config(args.config, args.cfg_options).pretty_text, end='')
    else:
        print(find_config(args.config))
    if adapts or args.inherit or args.copy:
        print(f'wrote {out}; train it with: {shlex.join(["mmca", "train", out])}')
    return 0


def _write_adapted(args: argparse.Namespace, out: str) -> None:
    require(*FULL_STACK)
    cfg = load_config(args.config)
    adaptation = plan(cfg, args.backbone, args.weights, args.keep_recipe)
    write_adapted(args.config, adaptation, out)
    print_table(('changed', 'how'), adaptation.reasons.items())


def _print_list(word: str) -> None:
    header = ('config', 'model', 'backbone', 'params M', 'GMACs', 'in the paper')
    found = {
        title: [row for row in rows if word.lower() in ' '.join(row[:3]).lower()]
        for folder, title in FOLDERS.items()
        for rows in [list(map(_row, shipped_models(folder)))]
    }
    if not any(found.values()):
        raise InputError(f'no shipped config has {word!r} in its name; list all without a word')
    for title, rows in found.items():
        if rows:
            print(f'\n{title}')
            print_table(header, rows)


def _row(model: dict) -> tuple[str, ...]:
    name, data = model['Config'].removeprefix('configs/').removesuffix('.py'), model['Metadata']
    counts = f'{data["Parameters"] / 1e6:8.2f}', f'{data["FLOPs"] / 1e9:6.1f}'
    results = [r['Metrics'] for r in model.get('Results', ()) if r['Source'] == 'paper']
    published = [f'{metric} {value}' for metrics in results for metric, value in metrics.items()]
    return name, *data['Architecture'], *counts, ', '.join(published)


def _write_for_data(args: argparse.Namespace, out: Path) -> None:
    if args.config is not None:
        raise InputError(f'{args.config}: --data chooses a config; use --model and --backbone')
    require(*FULL_STACK)
    from mmca.cli.check import check_config

    options = vars(args)
    info = inspect_folder(args.data, **{name: options[name] for name in INSPECTION})
    recipe = choose(info, **{name: options[name] for name in CHOICES})
    written = write(info, recipe, out)
    try:
        check_config(str(out))
    except BaseException:
        for path in written:
            path.unlink()
        raise
    _report(info, recipe, out)


def _report(info: DatasetInfo, recipe: Recipe, out: Path) -> None:
    labels = info.task == 'labels'
    kind = 'label maps' if labels else 'objects'
    splits = [
        (name, len(split.names), split.images or '.', ', '.join(listed) or f'all with {kind}')
        for name, split in info.splits.items()
        for listed in [split.lists.values() or filter(None, [split.listing])]
    ]
    print(f'{info.root}: {kind}, classes: {len(info.classes)}')
    print_table(('split', 'images', 'folder', 'listed in'), splits)
    classes = [
        (name, *(s.objects.get(name, 0) for s in info.splits.values())) for name in info.classes
    ]
    print_table((f'class ({kind})', *info.splits), classes)
    print_table(('setting', 'choice'), recipe.reasons.items())
    for note in info.notes:
        print(f'note: {note}')
    last = f'iter_{recipe.iterations}' if labels else f'epoch_{recipe.epochs}'
    scaled = ['--cfg-options', 'auto_scale_lr.enable=True'] if labels else ['--auto-scale-lr']
    trained = str(out), f'work_dirs/{out.stem}/{last}.pth'
    images = str(info.root / info.splits.get('test', info.splits['val']).images)
    print(f'\nwrote {out}; its checks passed')
    for words in (
        ('train', str(out), *([] if recipe.lr else ['--amp', *scaled])),
        ('test', *trained),
        ('predict', *trained, images, '--out', 'predictions'),
    ):
        print(f'  {shlex.join(["mmca", *words])}')
