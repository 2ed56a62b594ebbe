"""Read files of torch.save without executing their contents.

`torch.load(weights_only=True)` rejects the log buffers and yacs configs in training checkpoints.
Here an inert class replaces every name that torch does not know to be safe, so that torch can read
the rest.
"""

import pickletools
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import torch

from mmca.checkpoint import unpickler
from mmca.checkpoint.unpickler import Inert
from mmca.errors import InputError
from mmca.ops.compat import CHECKS_RECORDS, HAS_SAFE_LOAD

ZIP_START = b'PK\x03\x04'  # distinguishes the two formats, as in torch
LEGACY_PICKLES = 5  # magic number, version, system, content, storages


class InertMapping(Inert):
    """Replaces an object filled like a mapping: torch fills only exact OrderedDicts."""

    def __new__(cls, *args: Any) -> OrderedDict:
        mapping = OrderedDict()
        mapping.stand_in = True
        return mapping


def is_stand_in(value: Any) -> bool:
    """Whether an inert object replaced `value`."""
    return isinstance(value, Inert) or hasattr(value, 'stand_in')


def load_inert(path: Path) -> Any:
    """Read a file of torch.save, on the CPU, with inert objects in place of unknown ones.

    Raises whatever torch and zipfile raise on damaged or malicious files.
    """
    _check_archive(path)
    if not HAS_SAFE_LOAD:
        return unpickler.load(path)
    names = _globals(path)

    def load(kind: type[Inert]) -> Any:
        # numpy's objects have tuples as states. Names that torch considers safe remain torch's.
        stand_ins = [(Inert if name.startswith('numpy.') else kind, name) for name in names]
        return load_known(path, stand_ins)

    try:
        return load(InertMapping)
    except (AttributeError, TypeError, ValueError):  # the state of an object is not a mapping
        return load(Inert)


def load_known(path: Path, known: Sequence, map_location: Any = 'cpu') -> Any:
    """Read a file of torch.save that names nothing but `known`, as for `safe_globals`.

    Before torch 2.6 other names become inert, `known` or not, and tensors are on the CPU.
    """
    _check_archive(path)
    if not HAS_SAFE_LOAD:
        return unpickler.load(path)
    with torch.serialization.safe_globals(list(known)):
        return torch.load(path, map_location=map_location, weights_only=True)


def _check_archive(path: Path) -> None:
    """Reject zip archives that expand beyond their size before reading them into memory."""
    if not _is_zip(path):
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if packed or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise InputError(
            f'{path} is a compressed zip archive, which torch.save does not write: unpack it if '
            'it contains a checkpoint'
        )
    if not CHECKS_RECORDS:
        unpickler.check_records(path)


def _is_zip(path: Path) -> bool:
    with path.open('rb') as file:
        return file.read(len(ZIP_START)) == ZIP_START


def _globals(path: Path) -> set[str]:
    """All names in a file as 'module.name', under their Python 3 names as well."""
    found = set()
    for file in _pickles(path):
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == 'GLOBAL':
                name = tuple(argument.split(' ', 1))
                module, attribute = NAME_MAPPING.get(name, name)
                found |= {'.'.join(name), f'{IMPORT_MAPPING.get(module, module)}.{attribute}'}
    return found


def _pickles(path: Path) -> Iterator[IO[bytes]]:
    """The pickles of a file, as streams positioned at their starts."""
    if _is_zip(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith('/data.pkl'):
                    with archive.open(name) as file:
                        yield file
        return
    with path.open('rb') as file:
        for _ in range(LEGACY_PICKLES):
            yield file
