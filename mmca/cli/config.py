"""List the shipped configs, find one, print it, or make a config of your own from one.

Without an option, prints the path of the config's file.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from mmca.cli.arguments import CONFIG_HELP, add_cfg_options
from mmca.cli.shipped import PREFIX, config_names, config_root, find_config
from mmca.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config

REQUIRES = ('mmengine',)
EPILOG = """\
examples:
  %(prog)s --list
  %(prog)s coco/maskrcnn_ca_pvt_s --print
  %(prog)s coco/maskrcnn_ca_pvt_s --inherit my_config.py
  %(prog)s coco/maskrcnn_ca_pvt_s --copy standalone.py --cfg-options train_cfg.max_epochs=36

A config of your own inherits from a shipped one by its name, and replaces what it sets:
  _base_ = 'mmca::coco/maskrcnn_ca_pvt_s.py'
  train_dataloader = dict(batch_size=4)
All commands of mmca read such a file. Elsewhere in mmengine, use what --copy writes."""
DATA_ROOT = 'MMCA_DATA_ROOT'
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
    add_cfg_options(parser)


def run(args: argparse.Namespace) -> int:
    """List, find, print or write; returns the exit code."""
    if args.list:
        _print_list()
        return 0
    if args.config is None:
        raise InputError('name a config, or use --list')
    if args.cfg_options and not (args.print or args.copy):
        raise InputError('--cfg-options goes with --print or --copy')
    if args.print:
        print(_merged(args).pretty_text, end='')
    elif args.copy:
        # The copy, too, takes the data's folder from the environment.
        default = os.environ.pop(DATA_ROOT, None)
        os.environ[DATA_ROOT] = f'{{{{${DATA_ROOT}:data}}}}'
        try:
            text = _merged(args).pretty_text
        finally:
            del os.environ[DATA_ROOT]
            if default is not None:
                os.environ[DATA_ROOT] = default
        _write(args.copy, text)
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
    for folder in sorted({name.partition('/')[0] for name in names}):
        metafile = load(root / folder / 'metafile.yml')
        models = {model['Name']: model for model in metafile['Models']}
        own = [name for name in names if name.startswith(f'{folder}/')]
        title = metafile['Collections'][0]['Metadata']['Training Data']
        print(f'{folder}: {title}')
        width = max(map(len, own)) + 2
        for name in own:
            model = models[name]
            print(f'  {name:{width}}{_describe(model)}')
        print()
    print('accuracies are those of the papers; none was reproduced here')


def _describe(model: dict) -> str:
    return ''


def _merged(args: argparse.Namespace) -> Config:
    from mmca.cli.configs import read_config

    return read_config(args.config, args.cfg_options)


def _starter(args: argparse.Namespace) -> str:
    """A config of a few lines that inherits from a shipped one."""
    path = Path(find_config(args.config)).resolve()
    root = config_root().resolve()
    if not path.is_relative_to(root):
        raise InputError(f'--inherit: {args.config} is not a shipped config')
    cfg = _merged(args)
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
