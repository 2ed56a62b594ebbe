"""Reading third-party checkpoint files without executing what is in them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from mmca.checkpoint.archive import check_archive, check_tensors
from mmca.checkpoint.safe_unpickle import is_stand_in, load_inert
from mmca.errors import InputError

# Keys of the weights in a file, in order of preference; averaged weights come last.
WRAPPINGS = (
    'state_dict',
    'model',
    'module',
    'state_dict_ema',
    'model_ema',
    'ema_state_dict',
)
MAX_NESTING = 8


@dataclass(frozen=True)
class Checkpoint:
    """The weights in a file, and what the file holds besides.

    Attributes:
        tensors: name -> tensor, on the CPU; 'module.' prefixes removed.
        keys: where in the file they were, from the outside, such as ('model',).
        skipped: the file's other entries, such as 'optimizer' and 'model_ema'.
    """

    tensors: dict[str, Tensor]
    keys: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """A description, which mentions averaged weights in the same file."""
        words = [f'in {".".join(self.keys)!r}' if self.keys else 'a bare state dict']
        for name in self.skipped:
            if name == 'ema_state_dict':
                # mmengine's EMAHook swaps the two sets when it saves.
                words.append(f'averaged (EMA) by mmengine, the plain weights are in {name!r}')
            elif name in WRAPPINGS and 'ema' in name:
                words.append(f'the averaged (EMA) weights in {name!r} were not taken')
        return '; '.join(words)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint file and find the weights in it.

    Nothing in the file is executed, see `mmca.checkpoint.safe_unpickle`: optimizer states, configs
    and log buffers beside the weights are skipped.

    Args:
        path: a file of torch.save, or `.safetensors`: a state dict, or one under any of
            `WRAPPINGS`, nested too.

    Returns:
        The weights, and where they were.

    Raises:
        InputError: no such file, not a checkpoint, damaged, or no tensors in it; or safetensors
            is not installed.
    """
    path = Path(path).expanduser()
    content = _read(path, _read_safetensors if path.suffix == '.safetensors' else load_inert)
    if is_stand_in(content):
        raise InputError(
            f'{path} holds a whole pickled object, which is not run; save its state_dict() instead'
        )
    if not isinstance(content, Mapping):
        raise InputError(f'{path} holds a {type(content).__name__}, not a state dict')
    checkpoint = find_weights(content)
    if checkpoint is None:
        raise InputError(f'{path} holds no tensors')
    check_tensors(path, checkpoint.tensors)
    return checkpoint


def load_whole(path: str | Path, map_location: Any = 'cpu', known: Sequence = ()) -> Any:
    """Read all of a file of torch.save, as resuming needs it, and execute nothing.

    Args:
        path: the file.
        map_location: as for torch.load.
        known: classes and functions that a file may name, as for torch.serialization.safe_globals.

    Returns:
        Its content: tensors, containers, and what is known.

    Raises:
        InputError: no such file, damaged, not a checkpoint, or it holds anything else.
    """
    path = Path(path).expanduser()

    def load(path: Path) -> Any:
        check_archive(path)
        with torch.serialization.safe_globals(list(known)):
            return torch.load(path, map_location=map_location, weights_only=True)

    content = _read(path, load)
    checkpoint = find_weights(content) if isinstance(content, Mapping) else None
    if checkpoint is None:
        raise InputError(f'{path} holds no state dict')
    check_tensors(path, checkpoint.tensors)
    return content


def _read(path: Path, read: Callable[[Path], Any]) -> Any:
    """The content of a file; whatever is wrong with the file becomes an InputError."""
    if not path.is_file():
        raise InputError(f'checkpoint not found: {path}')
    try:
        return read(path)
    except InputError:
        raise
    except UnpicklingError as error:
        raise InputError(
            f'{path} is damaged, or holds more than weights and is not loaded, since that would '
            f'run code in it ({_reason(error)}); `mmca inspect FILE` shows what is in it'
        ) from error
    except Exception as error:  # damaged bytes can make an unpickler raise anything
        raise InputError(
            f'cannot read the checkpoint {path}: it is damaged, incomplete or not a checkpoint '
            f'({_reason(error)})'
        ) from error


def _reason(error: Exception) -> str:
    """The line of an error that says what is wrong."""
    # torch's own reason follows a paragraph of advice to run the file's code.
    text = str(error).rpartition('WeightsUnpickler error:')[2]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # Without that mark the reason is the second line.
    advice = len(lines) > 1 and lines[0].startswith('Weights only')
    return (lines[advice] if lines else type(error).__name__)[:160]


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise InputError(
            f'{path}: reading .safetensors needs a package: pip install safetensors'
        ) from error
    return load_file(path)


def find_weights(content: Mapping, keys: tuple[str, ...] = ()) -> Checkpoint | None:
    """Find the innermost state dict in the content of a file.

    Args:
        content: what the file holds.
        keys: those that led to it.

    Returns:
        The weights, or None where there are no tensors.
    """
    for name in WRAPPINGS if len(keys) < MAX_NESTING else ():
        inside = content.get(name)
        found = find_weights(inside, (*keys, name)) if isinstance(inside, Mapping) else None
        if found is not None:
            beside = tuple(str(key) for key in content if key != name)
            return Checkpoint(found.tensors, found.keys, (*beside, *found.skipped))
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if not tensors:
        return None
    skipped = tuple(str(key) for key in content if key not in tensors)
    return Checkpoint({k.removeprefix('module.'): v for k, v in tensors.items()}, keys, skipped)


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file, see :func:`read_checkpoint`.

    Args:
        path: see :func:`read_checkpoint`.

    Returns:
        Name -> tensor, on the CPU; 'module.' prefixes removed.

    Raises:
        InputError: see :func:`read_checkpoint`.
    """
    return read_checkpoint(path).tensors
