"""Read files of torch.save without executing their contents.

`torch.load(weights_only=True)` rejects the log buffers and yacs configs in training checkpoints,
and runs TorchScript before torch 2.6 (CVE-2025-32434). This reader knows containers, numbers, text
and dense tensors; an inert object replaces everything else.
"""

from __future__ import annotations

import zipfile
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from pickle import Unpickler, UnpicklingError
from pickletools import genops
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from mmca.errors import InputError
from mmca.ops.compat import HAS_SAFE_LOAD

DTYPES = {
    'DoubleStorage': torch.float64,
    'FloatStorage': torch.float32,
    'HalfStorage': torch.float16,
    'BFloat16Storage': torch.bfloat16,
    'LongStorage': torch.int64,
    'IntStorage': torch.int32,
    'ShortStorage': torch.int16,
    'CharStorage': torch.int8,
    'ByteStorage': torch.uint8,
    'BoolStorage': torch.bool,
    'UntypedStorage': torch.uint8,
    'ComplexFloatStorage': torch.complex64,
    'ComplexDoubleStorage': torch.complex128,
}
NUMPY = {'f8': torch.float64, 'f4': torch.float32, 'i8': torch.int64, 'b1': torch.bool}
ZIP_START = b'PK\x03\x04'  # distinguishes the two formats, as in torch
MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of a file that is not a zip archive
WEIGHTS = ('torch._utils', 'torch._tensor', 'torch.nn.parameter')  # modules that build tensors
DEPTH = 100  # of containers in containers that may hold tensors


class Inert(dict):
    """Replaces an object of any class; keeps its items, ignores its arguments and state."""

    __hash__, __eq__ = object.__hash__, object.__eq__  # the object may be a key

    def __new__(cls, *args: Any, **options: Any) -> Inert:
        return super().__new__(cls)

    def __init__(self, *args: Any, **options: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def append(self, value: Any) -> None: ...

    def extend(self, values: Any) -> None: ...


class _NumpyDtype(Inert):
    def __init__(self, name: Any, *args: Any) -> None:
        self.name = name


class _View(NamedTuple):
    """A tensor in a file: until the end, a pickle must not get hold of a Tensor and its methods."""

    key: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Key(NamedTuple):
    """A storage in a file."""

    key: str


class _TensorUnpickler(Unpickler):
    """Builds containers, views and inert objects, from functions that a pickle cannot change."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.storages: dict[str, tuple[torch.dtype, int]] = {}  # key -> dtype, number of values

    def find_class(self, module: str, name: str) -> Any:
        if module in ('torch', 'torch.storage') and name in DTYPES:
            return DTYPES[name]
        known = {
            'collections.OrderedDict': OrderedDict,
            'collections.Counter': self._counter,
            'torch._utils._rebuild_tensor': self._view,
            'torch._utils._rebuild_tensor_v2': self._view,
            'torch._utils._rebuild_parameter': self._first,
            'torch._utils._rebuild_parameter_with_state': self._first,
            'torch._tensor._rebuild_from_type_v2': self._call,
            'numpy.core.multiarray.scalar': self._number,
            'numpy.dtype': _NumpyDtype,
            '_codecs.encode': self._encode,
        }
        full = f'{module}.{name}'.replace('numpy._core', 'numpy.core')
        if full not in known and module in WEIGHTS:  # may build a weight
            raise UnpicklingError(f'{full} with torch {torch.__version__}')
        return known.get(full, Inert)

    def persistent_load(self, pid: Any) -> _Key:
        kind, dtype, key, _, number, *views = pid
        plain = isinstance(dtype, torch.dtype) and type(key) is str and type(number) is int
        if kind != 'storage' or not plain or any(view is not None for view in views):
            raise UnpicklingError(f'storage {key!r}')
        if self.storages.setdefault(key, (dtype, number)) != (dtype, number):
            raise UnpicklingError(f'storage {key!r} twice')
        return _Key(key)

    def _view(self, storage: _Key, offset: int, size: tuple, stride: tuple, *_: Any) -> _View:
        return _View(storage.key, offset, size, stride)

    def _first(self, value: Any, *_: Any) -> Any:
        return value

    def _call(self, function: Any, kind: Any, args: tuple, *_: Any) -> Any:
        return function(*args)  # one of these, as for the opcode REDUCE

    def _counter(self, values: dict) -> Counter:  # milestones of a schedule
        return Counter(values)

    def _number(self, dtype: _NumpyDtype, data: bytes) -> Any:
        known = NUMPY.get(dtype.name)
        return Inert() if known is None else _values(data, known, 1).item()

    def _encode(self, text: str, *_: Any) -> bytes:
        return text.encode('latin1')


def load_inert(path: Path) -> Any:
    """Read a file of torch.save, on the CPU, with inert objects in place of unknown ones.

    Raises whatever pickle, zipfile and torch raise on damaged or malicious files.
    """
    if not _is_zip(path):
        return _load_legacy(path)
    with zipfile.ZipFile(path) as archive:
        content, storages = _unpickle(archive, path)
        values = {
            key: _values(archive.read(record), dtype, number)
            for key, (record, dtype, number) in storages.items()
        }
    return _with_tensors(content, values, {})


def load_known(path: Path, known: Sequence, map_location: Any = 'cpu') -> Any:
    """Read a file of torch.save that names nothing but `known`, as for `safe_globals`.

    Before torch 2.6 other names become inert, `known` or not, and tensors are on the CPU.
    """
    if not HAS_SAFE_LOAD:
        return load_inert(path)
    if _is_zip(path):
        with zipfile.ZipFile(path) as archive:
            for key, (record, dtype, number) in _unpickle(archive, path)[1].items():
                # torch 2.8 reads beyond a record that is shorter than its tensor.
                _check_size(key, dtype, number, archive.getinfo(record).file_size)
    with torch.serialization.safe_globals(list(known)):
        return torch.load(path, map_location=map_location, weights_only=True)


def _is_zip(path: Path) -> bool:
    with path.open('rb') as file:
        return file.read(len(ZIP_START)) == ZIP_START


def _unpickle(
    archive: zipfile.ZipFile, path: Path
) -> tuple[Any, dict[str, tuple[str, torch.dtype, int]]]:
    """The content, and key -> record, dtype and number of values of each storage.

    Rejects archives that expand beyond their size before reading them into memory.
    """
    entries = archive.infolist()
    if any(entry.filename.endswith('/constants.pkl') for entry in entries):
        raise InputError(f'{path} is a TorchScript program: save the state_dict() of its model')
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if packed or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise InputError(
            f'{path} is a compressed zip archive, which torch.save does not write: unpack it if '
            'it contains a checkpoint'
        )
    (main,) = (name for name in archive.namelist() if name.endswith('/data.pkl'))
    folder = main[: -len('data.pkl')]
    content, storages = _load(BytesIO(archive.read(main)))
    return content, {key: (f'{folder}data/{key}', *found) for key, found in storages.items()}


def _load(file: BinaryIO) -> tuple[Any, dict[str, tuple[torch.dtype, int]]]:
    """The content and the storages of the next pickle in a file."""
    start = file.tell()
    for opcode, index, position in genops(file):
        # Python's memo grows to the index, however few objects there are.
        if opcode.name in ('PUT', 'LONG_BINPUT') and index > position:
            raise UnpicklingError(f'object {index}')
    file.seek(start)
    unpickler = _TensorUnpickler(file)
    return unpickler.load(), unpickler.storages


def _load_legacy(path: Path) -> Any:
    with path.open('rb') as file:
        if _load(file)[0] != MAGIC:
            raise ValueError('not written by torch.save')
        _load(file), _load(file)  # version of the format, and the system that wrote it
        (content, storages), values = _load(file), {}
        for key in _load(file)[0]:
            dtype, number = storages[key]
            size = _check_size(key, dtype, number, path.stat().st_size)
            if int.from_bytes(file.read(8), 'little') != number:
                raise UnpicklingError(f'storage {key!r}')
            values[key] = _values(file.read(size), dtype, number)
    return _with_tensors(content, values, {})


def _check_size(key: str, dtype: torch.dtype, number: int, available: int) -> int:
    """The number of bytes in a storage."""
    size = number * dtype.itemsize
    if not 0 <= size <= available:
        raise UnpicklingError(f'storage {key!r} claims {number} values')
    return size


def _values(data: bytes, dtype: torch.dtype, number: int) -> Tensor:
    if number == 0:
        return torch.empty(0, dtype=dtype)
    return torch.frombuffer(bytearray(data), dtype=dtype, count=number)


def _with_tensors(
    value: Any, values: Mapping[str, Tensor], known: dict[int, tuple], depth: int = DEPTH
) -> Any:
    """Replace views by tensors; `known`, from ids to containers and copies, ends cycles."""
    if isinstance(value, _View):
        return values[value.key].as_strided(value.size, value.stride, value.offset)
    if depth == 0 or not isinstance(value, (dict, list, tuple)):
        return value
    if id(value) not in known:
        known[id(value)] = value, value
        items = list(value.items() if isinstance(value, dict) else enumerate(value))
        new = {key: _with_tensors(item, values, known, depth - 1) for key, item in items}
        if isinstance(value, tuple):
            known[id(value)] = value, tuple(new.values())
        else:
            for key, item in new.items():
                value[key] = item
    return known[id(value)][1]
