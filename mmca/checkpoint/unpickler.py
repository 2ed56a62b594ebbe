"""Read files of torch.save without torch.load, for torch before 2.6.

There `torch.load(weights_only=True)` takes no stand-ins and runs TorchScript (CVE-2025-32434). This
reader knows containers, numbers, text and dense tensors; everything else becomes an inert object.
"""

from __future__ import annotations

import zipfile
from collections import Counter, OrderedDict
from collections.abc import Mapping
from io import BufferedReader, BytesIO
from pathlib import Path
from pickle import Unpickler, UnpicklingError
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

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
MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of a file that is not a zip archive
WEIGHTS = ('torch._utils', 'torch._tensor', 'torch.nn.parameter')  # modules that build tensors
DEPTH = 100  # of containers in containers that may hold tensors


class Inert:
    """Replaces an object of any class; accepts and ignores arguments, state and items."""

    def __new__(cls, *args: Any) -> Inert:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None: ...

    def extend(self, values: Any) -> None: ...


class _NumpyDtype(Inert):
    def __new__(cls, name: Any, *args: Any) -> _NumpyDtype:
        found = super().__new__(cls)
        found.name = name
        return found


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

    def __init__(self, file: BinaryIO, whole: bool = True) -> None:
        super().__init__(file)
        self.whole = whole  # whether to refuse what may be a weight and is not known
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
            'numpy.core.multiarray.scalar': self._number,
            'numpy.dtype': _NumpyDtype,
            '_codecs.encode': self._encode,
        }
        full = f'{module}.{name}'.replace('numpy._core', 'numpy.core')
        if self.whole and full not in known and module in WEIGHTS:
            raise UnpicklingError(f'{full} with torch {torch.__version__}')  # may build a weight
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

    def _counter(self, values: dict) -> Counter:  # milestones of a schedule
        return Counter(values)

    def _number(self, dtype: _NumpyDtype, data: bytes) -> Any:
        known = NUMPY.get(dtype.name)
        return Inert() if known is None else _values(data, known, 1).item()

    def _encode(self, text: str, *_: Any) -> bytes:
        return text.encode('latin1')


def load(path: Path) -> Any:
    """Read a file of torch.save, on the CPU.

    Raises whatever pickle, zipfile and torch raise on damaged or malicious files.
    """
    with path.open('rb') as file:
        if not zipfile.is_zipfile(file):
            file.seek(0)
            return _load_legacy(file, path.stat().st_size)
    with zipfile.ZipFile(path) as archive:
        content, storages = _unpickle(archive)
        values = {
            key: _values(archive.read(record), dtype, number)
            for key, (record, dtype, number) in storages.items()
        }
    return _with_tensors(content, values, {})


def check_records(path: Path) -> None:
    """Reject a zip archive in which a tensor claims more than is stored: torch reads beyond it."""
    with zipfile.ZipFile(path) as archive:
        for key, (record, dtype, number) in _unpickle(archive, whole=False)[1].items():
            size = number * torch.empty(0, dtype=dtype).element_size()
            if not 0 <= size <= archive.getinfo(record).file_size:
                raise UnpicklingError(f'storage {key!r} claims {number} values')


def _unpickle(
    archive: zipfile.ZipFile, whole: bool = True
) -> tuple[Any, dict[str, tuple[str, torch.dtype, int]]]:
    """The content, and key -> record, dtype and number of values of each storage."""
    (main,) = (name for name in archive.namelist() if name.endswith('/data.pkl'))
    folder = main[: -len('data.pkl')]
    pickled = _TensorUnpickler(BytesIO(archive.read(main)), whole)
    content = pickled.load()
    return content, {k: (f'{folder}data/{k}', *v) for k, v in pickled.storages.items()}


def _load_legacy(file: BufferedReader, file_size: int) -> Any:
    if file.peek(2)[:1] != b'\x80' or _TensorUnpickler(file).load() != MAGIC:
        raise ValueError('not written by torch.save')
    for _ in range(2):  # version of the format, and the system that wrote it
        _TensorUnpickler(file).load()
    pickled = _TensorUnpickler(file)
    content, values = pickled.load(), {}
    for key in _TensorUnpickler(file).load():
        dtype, number = pickled.storages[key]
        size = number * torch.empty(0, dtype=dtype).element_size()
        if int.from_bytes(file.read(8), 'little') != number or not 0 <= size <= file_size:
            raise UnpicklingError(f'storage {key!r} claims {number} values')
        values[key] = _values(file.read(size), dtype, number)
    return _with_tensors(content, values, {})


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
