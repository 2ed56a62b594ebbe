"""Command-line flags, and one-line messages for bad values."""

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import torch

from mmca.errors import InputError

DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float64': torch.float64}


class Parser(ArgumentParser):
    """An argument parser that raises an :class:`InputError` instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def at_least(least: int) -> Callable[[str], int]:
    """The type of an integer flag with a lower bound."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise ArgumentTypeError(f'must be an integer of at least {least}, got {text}')
        return int(text)

    return parse


def parse_size(text: str) -> tuple[int, ...]:
    """BxHxWxC -> four positive integers."""
    parts = text.split('x')
    if len(parts) != 4 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ArgumentTypeError(f'write BxHxWxC, such as 1x200x336x64, got {text}')
    return tuple(map(int, parts))


def _parse_dtype(text: str) -> torch.dtype:
    if text not in DTYPES:
        raise ArgumentTypeError(f'must be one of {", ".join(DTYPES)}, got {text}')
    return DTYPES[text]


def _parse_device(text: str) -> torch.device:
    kind, _, index = text.partition(':')
    if kind not in ('cpu', 'cuda') or not (index or '0').isdecimal():
        raise ArgumentTypeError(f'write cpu, cuda or cuda:1, got {text}')
    count = torch.cuda.device_count()
    if kind == 'cuda' and int(index or 0) >= count:
        raise ArgumentTypeError(f'{text}: this torch sees {count} CUDA devices')
    return torch.device(text)


def _parse_folder(text: str) -> Path:
    if Path(text).exists() and not Path(text).is_dir():
        raise ArgumentTypeError(f'{text} is a file, not a folder')
    return Path(text)


# Flags of all suites -> keywords of `add_argument`; --rounds has a default per suite.
COMMON = {
    '--warmup': dict(type=at_least(1), default=2, help='untimed rounds; default 2'),
    '--threads': dict(type=at_least(1), help='CPU threads of torch; default: chosen by torch'),
    '--device': dict(type=_parse_device, default='cpu', help='cpu (default), cuda or cuda:1'),
    '--dtype': dict(type=_parse_dtype, default='float32', help=f'one of {", ".join(DTYPES)}'),
    '--amp': dict(action='store_true', help='autocast: float16 on a GPU, bfloat16 on the CPU'),
    '--tf32': dict(action='store_true', help='use TF32 for float32 products (GPUs)'),
    '--no-memory': dict(action='store_true', help='measure only times'),
    '--profile': dict(action='store_true', help='also show the time of mmca by kind of operator'),
    '--seed': dict(type=int, default=0, help='random seed of weights and inputs; default 0'),
    '--out': dict(type=_parse_folder, default='work_dirs/benchmark', help='default %(default)s'),
}
