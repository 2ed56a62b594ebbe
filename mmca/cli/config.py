"""List the shipped configs, find one, print it, or make a config of your own.

With --data, looks into the folder of a data set, chooses what to train on it and writes a config.
Without an option, prints the path of the config's file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmca.cli.arguments import CONFIG_HELP, add_cfg_options
from mmca.config.own_data.choice import HEADS
from mmca.config.packages import FULL_STACK, require
from mmca.config.reader import read_config
from mmca.config.shipped import PREFIX, config_names, config_root, find_config
from mmca.errors import InputError

REQUIRES = ('mmengine',)
EPILOG = """\
examples:
  %(prog)s --data data/fruits
  %(prog)s --data data/fruits --weights ca_pvt_tiny.pth --epochs 50 --out my_config.py
  %(prog)s --list
  %(prog)s coco/maskrcnn_ca_pvt_s --print
  %(prog)s coco/maskrcnn_ca_pvt_s --inherit my_config.py
  %(prog)s coco/maskrcnn_ca_pvt_s --copy standalone.py --cfg-options train_cfg.max_epochs=36

A config of your own inherits from a shipped one by its name, and replaces what it sets:
  _base_ = 'mmca::coco/maskrcnn_ca_pvt_s.py'
  train_dataloader = dict(batch_size=4)
All commands of mmca read such a file. Elsewhere in mmengine, use what --copy writes."""
OWN_DATA = (  # arguments that go with --data
    *('out', 'model', 'backbone', 'weights', 'size', 'epochs', 'batch_size', 'device'),
    *('train', 'val', 'classes'),
)
TASKS = {
    'ade20k': 'Semantic segmentation on ADE20K (mmseg); multiply-adds at 2048 x 512',
    'camvid': 'Semantic segmentation on CamVid (mmseg), for CPUs; at 320 x 240',
    'coco': 'Detection and instance segmentation on COCO (mmdet); multiply-adds at 1280 x 800',
    'imagenet': 'Classification on ImageNet, for pre-training (mmpretrain); at 224 x 224',
    'mini': 'The synthetic data set of `mmca make-mini`; minutes on a CPU',
    'penn_fudan': 'Instance segmentation on Penn-Fudan (mmdet), for CPUs; at 400 x 300',
}
STARTER = """\
_base_ = '{prefix}{name}.py'

# What you set here replaces what the base says; `mmca config {file} --print` shows the result.
train_dataloader = dict(batch_size={batch_size})
optim_wrapper = dict(optimizer=dict(lr={lr}))
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument('config', nargs='?', metavar='CONFIG', help=CONFIG_HELP)
    action = parser.add_mutually_exclusive_group()
    action.add_argument('--list', action='store_true', help='list the shipped configs')
    action.add_argument('--print', action='store_true', help='print the config, bases merged')
    action.add_argument(
        '--copy', metavar='FILE', help='write a copy that needs no base and works anywhere'
    )
    action.add_argument(
        '--inherit', metavar='FILE', help='write a short config that inherits from a shipped one'
    )
    action.add_argument(
        '--data',
        metavar='DIR',
        help='write a config for a data set: COCO JSON files with their images, or images with '
        'label maps',
    )
    add_cfg_options(parser)
    own = parser.add_argument_group('with --data, instead of what it would choose')
    own.add_argument('--out', metavar='FILE', help='the config; default DIR.py in this folder')
    own.add_argument('--model', choices=HEADS, help='the kind of detector or segmentor')
    own.add_argument('--backbone', metavar='NAME', help='as in the shipped names; e.g. ca_swin_t')
    own.add_argument('--weights', metavar='FILE', help='where the backbone starts from')
    own.add_argument('--size', nargs=2, type=int, metavar=('W', 'H'), help='of the images')
    own.add_argument('--epochs', type=int, help='how often each image is seen')
    own.add_argument('--batch-size', type=int, help='images an iteration, on one device')
    own.add_argument(
        '--device', choices=('cpu', 'cuda'), help='what will train; default: a GPU if there is one'
    )
    own.add_argument('--train', metavar='FILE', help='COCO file to train with')
    own.add_argument('--val', metavar='FILE', help='COCO file to validate with')
    own.add_argument(
        '--classes', metavar='A,B', help='of label maps, in order; or a file, one a line'
    )


def run(args: argparse.Namespace) -> int:
    """List, find, print or write; returns the exit code."""
    if args.data is not None:
        if args.config is not None:
            raise InputError(f'{args.config}: --data chooses a config; name a --model, --backbone')
        from mmca.config.own_data.command import write_config

        require(*FULL_STACK)
        return write_config(args)
    for name in OWN_DATA:
        if vars(args)[name] is not None:
            raise InputError(f'--{name.replace("_", "-")} goes with --data')
    if args.list:
        _print_list()
        return 0
    if args.config is None:
        raise InputError('name a config, or use --list')
    if args.cfg_options and not (args.print or args.copy):
        raise InputError('--cfg-options goes with --print or --copy')
    if args.print:
        print(read_config(args.config, args.cfg_options).pretty_text, end='')
    elif args.copy:
        # {{$MMCA_DATA_ROOT:data}} stays, so that the copy reads it, too.
        cfg = read_config(args.config, args.cfg_options, environment=False)
        _write(args.copy, cfg.pretty_text)
    elif args.inherit:
        _write(args.inherit, _starter(args))
    else:
        print(find_config(args.config))
    return 0


def _print_list() -> None:
    """All configs by folder, with what their metafiles say."""
    from mmengine.fileio import load

    root = config_root()
    names = config_names()
    width = max(map(len, names)) + 2
    print(f'{"CONFIG":{width}}{"model":20}{"backbone":18}{"params M":>9}{"GMACs":>8}  in the paper')
    for folder in dict.fromkeys(name.partition('/')[0] for name in names):
        metafile = load(root / folder / 'metafile.yml')
        print(f'\n{TASKS[folder]}')
        for model in metafile['Models']:
            data = model['Metadata']
            name = model['Config'].removeprefix('configs/').removesuffix('.py')
            head, backbone = data['Architecture']
            size = f'{data["Parameters"] / 1e6:9.2f}{data["FLOPs"] / 1e9:8.1f}'
            print(f'{name:{width}}{head:20}{backbone:18}{size}  {_published(model)}'.rstrip())


def _published(model: dict) -> str:
    """The accuracies that a paper gives for a model, in words."""
    results = [result for result in model.get('Results', ()) if result['Source'] == 'paper']
    return ', '.join(f'{key} {value}' for r in results for key, value in r['Metrics'].items())


def _starter(args: argparse.Namespace) -> str:
    """A config of a few lines that inherits from a shipped one."""
    path = Path(find_config(args.config)).resolve()
    root = config_root().resolve()
    if not path.is_relative_to(root):
        raise InputError(f'--inherit: {args.config} is not a shipped config')
    cfg = read_config(args.config)
    return STARTER.format(
        prefix=PREFIX,
        name=path.relative_to(root).with_suffix('').as_posix(),
        file=args.inherit,
        batch_size=cfg.train_dataloader.batch_size,
        lr=cfg.optim_wrapper.optimizer.lr,
    )


def _write(file: str, text: str) -> None:
    """Write a new file and tell what to do with it."""
    path = Path(file)
    if path.suffix != '.py':
        raise InputError(f'{file}: the name of a config must end in .py')
    if path.exists():
        raise InputError(f'{file} is there already: choose another name')
    try:
        path.write_text(text, encoding='utf-8')
    except OSError as error:
        raise InputError(f'cannot write {file}: {error.strerror}') from error
    print(f'wrote {file}; train it with: mmca train {file}')
