"""Arguments that several sub-commands share."""

import argparse

CONFIG_HELP = 'a file, or the name of a shipped config: mmca config --list'


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the positional CONFIG."""
    parser.add_argument('config', metavar='CONFIG', help=CONFIG_HELP)


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add the positional CHECKPOINT of a trained model."""
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='a .pth file that training wrote')


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add `--device NAME`."""
    parser.add_argument('--device', help='such as cpu or cuda:1; default cuda if there is one')


def add_cfg_options(
    parser: argparse.ArgumentParser, example: str = 'model.backbone.arch=large'
) -> None:
    """Add `--cfg-options KEY=VALUE ...`, which may be given several times."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        default=[],
        metavar='K=V',
        help=f'change the config, e.g. {example}',
    )


def add_shape(parser: argparse.ArgumentParser, help: str, default: tuple | None = None) -> None:
    """Add `--shape H W`."""
    parser.add_argument(
        '--shape', nargs=2, type=int, default=default, metavar=('H', 'W'), help=help
    )
