"""Read third-party checkpoint files without executing their contents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from mmca.checkpoint.known_weights import find_file
from mmca.checkpoint.safe_unpickle import Inert, load_inert, load_known
from mmca.errors import InputError
from mmca.io import failed_download

# Keys that hold the weights, in order of preference; averaged weights come last.
WRAPPINGS = ('state_dict', 'model', 'module', 'state_dict_ema', 'model_ema', 'ema_state_dict')
MAX_NESTING = 8
EXPANDED = 2**30  # bytes: a tensor may repeat its values, as torch.Tensor.expand does, up to here


@dataclass(frozen=True)
class Checkpoint:
    """The weights in a file and a summary of its other contents.

    Attributes:
        tensors: name -> tensor, on the CPU, without the 'module.' of DistributedDataParallel and
            the '_orig_mod.' of torch.compile.
        keys: path of keys to the weights, such as ('model',).
        skipped: keys of the other entries, such as 'optimizer' and 'model_ema'.
        meta: numbers, strings and containers in the file's 'meta' entry.
    """

    tensors: dict[str, Tensor]
    keys: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Location of the weights in the file, and of omitted weights, such as averaged ones."""
        place = f'in {".".join(self.keys)!r}' if self.keys else 'a bare state dict'
        others = [f'{name!r} not loaded' for name in self.skipped if name in WRAPPINGS]
        return '; '.join([place, *others])


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint file and find the weights in it, without executing anything.

    Args:
        path: as for :func:`mmca.checkpoint.find_file`; a file of torch.save or `.safetensors`
            with a state dict, possibly under `WRAPPINGS`, or under any name if it is the only one.

    Raises:
        InputError: the file is missing, damaged, not a checkpoint, or has no tensors.
    """
    path = find_file(path)
    content = _read(path, _load)
    checkpoint = _check_weights(path, content)
    meta = _plain(content.get('meta'), {})
    return replace(checkpoint, meta=meta if isinstance(meta, dict) else {})


def load_whole(path: str | Path, map_location: Any = 'cpu', known: Sequence = ()) -> Any:
    """Read all of a file of torch.save, as resuming requires, without executing anything.

    Args:
        path: as for :func:`read_checkpoint`.
        map_location: as for torch.load.
        known: classes and functions that it can contain, as for torch.serialization.safe_globals.

    Raises:
        InputError: as :func:`read_checkpoint`; or the file contains anything else.
    """
    path = find_file(path)
    content = _read(path, lambda path: load_known(path, known, map_location))
    _check_weights(path, content)
    return content


def find_weights(content: Mapping, keys: tuple[str, ...] = ()) -> Checkpoint | None:
    """Find the innermost state dict in a file's content; None without tensors."""
    for name in WRAPPINGS if len(keys) < MAX_NESTING else ():
        inside = content.get(name)
        found = find_weights(inside, (*keys, name)) if isinstance(inside, Mapping) else None
        if found is not None:
            beside = tuple(str(key) for key in content if key != name)
            return replace(found, skipped=(*beside, *found.skipped))
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if not tensors:
        names = _state_dicts(content)
        if len(names) != 1:
            return None
        others = tuple(str(key) for key in content if key != names[0])
        found = find_weights(content[names[0]], (*keys, str(names[0])))
        return found and replace(found, skipped=(*others, *found.skipped))
    skipped = tuple(str(key) for key in content if key not in tensors)
    return Checkpoint({_bare_name(k): v for k, v in tensors.items()}, keys, skipped)


def _state_dicts(content: Any) -> list:
    """The names of state dicts in a file's content; an optimizer's has its tensors deeper."""
    items = content.items() if isinstance(content, Mapping) else ()
    return [
        name
        for name, value in items
        if isinstance(value, Mapping) and any(isinstance(v, Tensor) for v in value.values())
    ]


def _bare_name(name: str) -> str:
    """A tensor's name without what DistributedDataParallel and torch.compile add."""
    return name.replace('_orig_mod.', '').removeprefix('module.')


def _read(path: Path, read: Callable[[Path], Any]) -> Any:
    """Read a file; turn any failure into an InputError."""
    try:
        return read(path)
    except InputError:
        raise
    except Exception as error:  # damaged bytes can make an unpickler raise anything
        left = failed_download(path)
        if left is not None:
            raise InputError(f'cannot read the checkpoint {path}: {left}') from error
        if isinstance(error, UnpicklingError):
            raise InputError(
                f'{path} is damaged, or contains more than weights and could run code, so mmca '
                'does not load it; `mmca inspect FILE` shows the contents'
            ) from error
        reason = (str(error).strip().splitlines() or [''])[0]
        raise InputError(
            f'cannot read the checkpoint {path}: it is damaged, incomplete or not a checkpoint '
            f'({type(error).__name__}: {reason[:160]})'
        ) from error


def _load(path: Path) -> Any:
    if path.suffix != '.safetensors':
        return load_inert(path)
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise InputError(f'{path} needs safetensors; run: pip install safetensors') from error
    return load_file(path)


def _check_weights(path: Path, content: Any) -> Checkpoint:
    """Find the weights in a file's content; reject tensors that no trained model has."""
    checkpoint = find_weights(content) if isinstance(content, Mapping) else None
    if checkpoint is None:
        if isinstance(content, Inert):
            raise InputError(
                f'{path} is a pickled object, which mmca does not load: save its state_dict()'
            )
        if names := _state_dicts(content):
            several = ', '.join(map(str, names))
            raise InputError(f'{path} contains several state dicts: {several}; save one alone')
        raise InputError(f'{path} contains no tensors, only a {type(content).__name__}')
    size = max(path.stat().st_size, EXPANDED)
    for name, tensor in checkpoint.tensors.items():
        if not name.isprintable():
            raise InputError(f'{path} contains a tensor with the unprintable name {name!r}')
        ordinary = tensor.layout == torch.strided and tensor.device.type != 'meta'
        if not ordinary or tensor.is_quantized or tensor.is_nested:
            raise InputError(f'{path}: the tensor {name!r} is sparse, quantized or without data')
        stored = max(tensor.nbytes, tensor.untyped_storage().nbytes())
        if stored > size:
            raise InputError(
                f'{path}: the tensor {name!r} of shape {tuple(tensor.shape)} claims {stored} '
                f'bytes, but the file has {path.stat().st_size}'
            )
    return checkpoint


_DROPPED = object()


def _plain(value: Any, known: dict[int, Any], depth: int = MAX_NESTING) -> Any:
    """Copy nested containers of numbers and strings without everything else.

    `known` maps containers' ids to copies, so that repeated references cannot make it explode.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    mapping = isinstance(value, Mapping)
    if depth == 0 or isinstance(value, Inert) or not (mapping or isinstance(value, (list, tuple))):
        return _DROPPED
    if id(value) not in known:
        known[id(value)] = _DROPPED  # while it is copied: a container may contain itself
        pairs = value.items() if mapping else enumerate(value)
        copies = {k: _plain(v, known, depth - 1) for k, v in pairs if isinstance(k, (str, int))}
        copies = {key: copy for key, copy in copies.items() if copy is not _DROPPED}
        kind = tuple if isinstance(value, tuple) else list
        known[id(value)] = copies if mapping else kind(copies.values())
    return known[id(value)]
