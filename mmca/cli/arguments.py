"""Arguments that several sub-commands share."""

import argparse
from collections.abc import Iterator, Mapping

CONFIG_HELP = 'a config file, or the name of a shipped config (see mmca config --list)'

WEIGHTS_HELP = 'a file, a URL, or a name listed by `mmca weights`'


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the positional CONFIG."""
    parser.add_argument('config', metavar='CONFIG', help=CONFIG_HELP)


def add_trained(parser: argparse.ArgumentParser) -> None:
    """Add the positional CONFIG and CHECKPOINT of a trained model."""
    add_config(parser)
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='a .pth file from training')


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add `--device NAME`."""
    parser.add_argument('--device', help='e.g. cpu or cuda:1; default: a GPU if available')


def add_score_threshold(parser: argparse.ArgumentParser, use: str) -> None:
    """Add `--score-thr S`."""
    text = f'detectors: {use}; default 0.3'
    parser.add_argument('--score-thr', type=float, default=0.3, metavar='S', help=text)


def add_cfg_options(
    parser: argparse.ArgumentParser, example: str = 'model.backbone.arch=large'
) -> None:
    """Add `--cfg-options KEY=VALUE ...`, which can be given several times."""
    options = {'nargs': '+', 'action': 'extend', 'default': [], 'metavar': 'K=V'}
    parser.add_argument('--cfg-options', **options, help=f'override the config, e.g. {example}')


def add_shape(parser: argparse.ArgumentParser, help: str) -> None:
    """Add `--shape H W`."""
    parser.add_argument('--shape', nargs=2, type=int, metavar=('H', 'W'), help=help)


def backbone_options(settings: Mapping, prefix: str = 'model.backbone') -> Iterator[str]:
    """Write backbone settings as KEY=VALUE for --cfg-options."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from backbone_options(value, f'{prefix}.{key}')
        else:
            yield f'{prefix}.{key}={value}'
