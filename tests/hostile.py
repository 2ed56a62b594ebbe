"""Hostile checkpoint files: code in every pickle opcode that builds, sizes of terabytes, bombs."""

import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

MARK, STOP, REDUCE, BUILD = b'(', b'.', b'R', b'b'
NEWOBJ, NEWOBJ_EX, OBJ, EMPTY_TUPLE, EMPTY_DICT = b'\x81', b'\x92', b'o', b')', b'}'


def text(value):
    """A string on the stack."""
    data = value.encode()
    return b'X' + len(data).to_bytes(4, 'little') + data


def name(module, attribute):
    return b'c' + f'{module}\n{attribute}\n'.encode()


def call(function, *args):
    """function(*args) by REDUCE."""
    return function + MARK + b''.join(args) + b't' + REDUCE


def corpus(target):
    """Label -> the opcodes of one object that runs `touch target` or crashes when it is built."""
    command, code = text(f'touch {target}'), text(f"open({str(target)!r}, 'w')")
    system, evaluate = name('os', 'system'), name('builtins', 'eval')
    storage = name('torch.storage', 'UntypedStorage')
    number = b'M\xff\xff'
    keywords = EMPTY_DICT + text('allocator') + number + b's'
    partial = name('functools', 'partial')
    return {
        'os.system': call(system, command),
        'eval': call(evaluate, code),
        'exec': call(name('builtins', 'exec'), code),
        'exec of Python 2': call(name('__builtin__', 'eval'), code),
        'open': call(name('io', 'open'), text(str(target)), text('w')),
        'subprocess': call(name('subprocess', 'getoutput'), command),
        'runpy': call(name('runpy', '_run_code'), code, EMPTY_DICT),
        'torch.load': call(name('torch', 'load'), text(str(target))),
        'torch.hub': call(name('torch.hub', '_import_module'), text('x'), text(str(target))),
        'ctypes': call(name('ctypes', 'string_at'), number),
        'a dotted name': call(name('torch', 'serialization.os.system'), command),
        'by INST': MARK + command + b'ios\nsystem\n',
        'by OBJ': MARK + system + command + OBJ,
        'by NEWOBJ': system + command + b'\x85' + NEWOBJ,
        'by NEWOBJ_EX': partial + system + b'\x85' + EMPTY_DICT + NEWOBJ_EX,
        'by STACK_GLOBAL': text('os') + text('system') + b'\x93' + command + b'\x85' + REDUCE,
        'by an extension code': b'\x82\x01' + command + b'\x85' + REDUCE,
        'by BUILD': partial + system + b'\x85' + NEWOBJ + EMPTY_TUPLE + BUILD,
        'map': call(name('builtins', 'map'), system, MARK + command + b'l'),
        'getattr': call(name('builtins', 'getattr'), name('os', 'path'), text('os')),
        'a storage by keywords': storage + EMPTY_TUPLE + keywords + NEWOBJ_EX,
        'a storage by partial': call(partial, storage) + keywords + BUILD,
        'a storage of terabytes': call(storage, b'\x8a\x06\x00\x00\x00\x00\x00\x40'),
        'a tensor of nothing': call(name('torch._utils', '_rebuild_tensor_v2'), *[b'N'] * 6),
        'a wrapper subclass': call(
            name('torch._utils', '_rebuild_wrapper_subclass'), evaluate, *[b'N'] * 7
        ),
        'a type to rebuild from': call(
            name('torch._tensor', '_rebuild_from_type_v2'), evaluate, b'N', code, EMPTY_DICT
        ),
        'a persistent id': b'(' + text('module') + evaluate + code + b'tQ',
        'a memo of gigabytes': b'Nr\xff\xff\xff\x3f',
        'deep nesting': b'(' * 5000 + b't' * 5000,
    }


def in_zip(opcodes):
    """As torch.save writes it today."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_STORED) as archive:
        archive.writestr('archive/data.pkl', b'\x80\x02' + opcodes + STOP)
        archive.writestr('archive/version', b'3\n')
        archive.writestr('archive/byteorder', b'little')
    return file.getvalue()


def in_legacy(opcodes):
    """As torch.save wrote it before 1.6."""
    first = (torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {})
    parts = [pickle.dumps(part, 2) for part in first]
    return b''.join([*parts, b'\x80\x02' + opcodes + STOP, pickle.dumps([], 2)])


def in_bare_pickle(opcodes: bytes) -> bytes:
    return b'\x80\x02' + opcodes + STOP


def in_tar(opcodes):
    """As the oldest torch.save wrote it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w') as archive:
        for part in ('sys_info', 'pickle', 'storages', 'tensors'):
            data = b'\x80\x02' + opcodes + STOP
            info = tarfile.TarInfo(part)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


WRAPS = {'zip': in_zip, 'legacy': in_legacy, 'bare pickle': in_bare_pickle, 'tar': in_tar}


ODD = 12347  # values, a number that occurs nowhere else


# --- Files whose tensors fit a model, with something else in them


def saved(content: object, zipped: bool = True) -> bytes:
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def beside_weights(opcodes: bytes, weights: Mapping[str, Tensor]) -> bytes:
    """A checkpoint whose weights fit, and which builds an object under the key 'x', too."""
    data = saved({'meta': {}, 'state_dict': dict(weights)})
    addition = text('x') + opcodes + b's'
    return changed(data, {'/data.pkl': lambda pickled: pickled[:-1] + addition + STOP})


def changed(data: bytes, changes: Mapping[str, Callable[[bytes], bytes]], method: int = 0) -> bytes:
    """A zip archive with some of its entries changed, by the ends of their names."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(target, 'w', method) as new:
        for name in source.namelist():
            content = source.read(name)
            for end, change in changes.items():
                content = change(content) if name.endswith(end) else content
            new.writestr(name, content)
    return target.getvalue()


def numel(size: int) -> Callable[[bytes], bytes]:
    """A change of pickles: ODD values become another number of values."""
    old, new = b'M' + struct.pack('<H', ODD), b'\x8a\x08' + struct.pack('<q', size)
    return lambda data: data.replace(old, new)


def safetensors(header: object, length: int | None = None, data: bytes = b'') -> bytes:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack('<Q', len(content) if length is None else length) + content + data


def odd_files(weights: Mapping[str, Tensor], folder: Path) -> dict[str, bytes]:
    """Name of a file -> its content: sizes, structures and formats that torch.save never wrote."""
    tera, good = 1 << 40, saved({'state_dict': dict(weights)})
    first = next(iter(weights))
    odd = torch.zeros(ODD)
    marked = saved({'state_dict': {**weights, first: odd}})
    marked_legacy = saved({'state_dict': {**weights, first: odd}}, zipped=False)
    wide = {**weights, first: torch.zeros(1).expand(tera)}
    nested: dict = {}
    nested.update(dict.fromkeys(('state_dict', 'model', 'module', 'model_ema'), nested))
    script = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), script)
    sparse = torch.sparse_coo_tensor(torch.zeros(1, 1, dtype=torch.long), torch.ones(1), (tera,))
    quantized = torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.quint8)
    entry = {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 8]}
    return {
        'empty.pth': b'',
        'html.pth': b'<!DOCTYPE html><html><body>404: Not Found</body></html>',
        'lfs pointer.pth': b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n',
        'zip of nothing.pth': b'PK\x05\x06' + bytes(18),
        'truncated.pth': good[: len(good) // 2],
        'truncated legacy.pth': saved({'state_dict': dict(weights)}, False)[:-1000],
        'flipped.pth': good[:300] + bytes(300) + good[600:],
        'torchscript.pth': script.getvalue(),
        'a number.pth': saved(1),
        'a list.pth': saved([torch.ones(1)]),
        'no tensors.pth': saved({'state_dict': {'a': 1}}),
        'keys that are no strings.pth': saved({'state_dict': {1: torch.ones(1)}}),
        'names with newlines.pth': saved({'state_dict': {'a\nerror: b\x1b[31m': torch.ones(1)}}),
        'a dict that holds itself.pth': saved(nested),
        'terabytes by stride 0.pth': saved({'state_dict': wide}),
        'terabytes, sparse.pth': saved({'state_dict': {**weights, first: sparse}}),
        'terabytes, meta.pth': saved(
            {'state_dict': {**weights, first: torch.empty(tera, device='meta')}}
        ),
        'quantized.pth': saved({'state_dict': {**weights, first: quantized}}),
        'storage of terabytes.pth': changed(marked, {'/data.pkl': numel(tera)}),
        'storage of a negative size.pth': changed(marked, {'/data.pkl': numel(-5)}),
        'legacy storage of terabytes.pth': numel(tera)(marked_legacy),
        'record cut short.pth': changed(good, {'/data/0': lambda d: d[: len(d) // 2]}),
        'deflated.pth': changed(good, {}, zipfile.ZIP_DEFLATED),
        'zip bomb.pth': changed(good, {'/data/0': lambda _: bytes(1 << 30)}, zipfile.ZIP_DEFLATED),
        'header.safetensors': b'',
        'length of exabytes.safetensors': safetensors({}, (1 << 63) + 5),
        'no json.safetensors': safetensors(b'x' * 20),
        'unknown dtype.safetensors': safetensors({'a': {**entry, 'dtype': 'F3'}}, data=bytes(8)),
        'shape of terabytes.safetensors': safetensors(
            {'a': {**entry, 'shape': [tera, tera]}}, data=bytes(8)
        ),
        'offsets outside.safetensors': safetensors(
            {'a': {**entry, 'data_offsets': [0, tera]}}, data=bytes(8)
        ),
        'a pickle.safetensors': in_bare_pickle(
            call(name('os', 'system'), text(f'touch {folder}/x'))
        ),
        'truncated.safetensors': safetensors({'a': entry}, data=bytes(4)),
    }
