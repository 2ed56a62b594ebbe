"""Inert stand-ins for what a checkpoint file names, so that torch reads it and executes nothing.

Training checkpoints hold more than tensors: mmengine's log buffers, yacs configs, numpy scalars.
torch.load(weights_only=True) refuses a file that names anything but what it knows to be safe. Here
every other name is replaced by a class that does nothing, and torch reads the rest.
"""

import pickletools
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import torch

from mmca.checkpoint.archive import check_archive, is_zip

LEGACY_PICKLES = 5  # magic number, version, system, content, storages


class Inert:
    """An object that was not built; takes whatever state a pickle gives it."""

    def __new__(cls, *args: Any) -> 'Inert':
        return super().__new__(cls)

    def __init__(self, *args: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


class InertMapping(Inert):
    """The same for objects that are filled as mappings: torch fills exact OrderedDicts only."""

    def __new__(cls, *args: Any) -> OrderedDict:
        mapping = OrderedDict()
        mapping.stand_in = True
        return mapping


def is_stand_in(content: Any) -> bool:
    """Whether an object was replaced and nothing of it was read."""
    return isinstance(content, Inert) or (getattr(content, 'stand_in', False) and not content)


def load_inert(path: Path) -> Any:
    """Read a file of torch.save without executing what is in it.

    Args:
        path: the file, zipped or in the legacy format.

    Returns:
        Its content, on the CPU; objects other than tensors and containers are inert.

    Raises:
        InputError: torch.save did not write it, see :func:`check_archive`.
        Exception: whatever torch raises on a file that is damaged or not to be trusted.
    """
    check_archive(path)
    names = _globals(path)
    try:
        return _load(path, names, InertMapping)
    except (AttributeError, TypeError, ValueError):  # the state of an object is no mapping
        return _load(path, names, Inert)


def _load(path: Path, names: set[str], kind: type[Inert]) -> Any:
    # The states of numpy's objects are tuples. Names that torch knows to be safe remain torch's.
    stand_ins = [(Inert if name.startswith('numpy.') else kind, name) for name in names]
    with torch.serialization.safe_globals(stand_ins):
        return torch.load(path, map_location='cpu', weights_only=True)


def _globals(path: Path) -> set[str]:
    """All names in a file, as 'module.name', also as Python 3 calls what Python 2 named."""
    found = set()
    for file in _pickles(path):
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == 'GLOBAL':
                name = tuple(argument.split(' ', 1))
                module, attribute = NAME_MAPPING.get(name, name)
                found |= {'.'.join(name), f'{IMPORT_MAPPING.get(module, module)}.{attribute}'}
    return found


def _pickles(path: Path) -> Iterator[IO[bytes]]:
    """The pickles of a file, as streams that are at their starts."""
    if is_zip(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith('/data.pkl'):
                    with archive.open(name) as file:
                        yield file
        return
    with path.open('rb') as file:
        for _ in range(LEGACY_PICKLES):
            yield file
