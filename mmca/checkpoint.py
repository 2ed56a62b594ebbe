"""Reading other people's checkpoints: unwrap, rename, resize, match, report."""

import math
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmca import safe_pickle
from mmca.dialects import find_prefix, guess_family, to_original_names
from mmca.errors import InputError
from mmca.layers.position import resize_tokens
from mmca.transfer import circulant_from_softmax

# Where weights lie in a file, the first that is there; averaged ones only where there are no plain.
WRAPPINGS = (
    'state_dict',
    'model',
    'module',
    'state_dict_ema',
    'model_ema',
    'ema_state_dict',
)
MAX_NESTING = 8
CLASSIFIER_ONLY = re.compile(
    r'head(_dist)?\..+|norm\.(weight|bias)|(cls|dist)_token|.*relative_position_index|.*attn_mask'
)
# What was learned on a square grid of tokens, and how it is brought to another one.
RESIZED = (
    (re.compile(r'pos_embed\d?'), 'bilinear'),
    (re.compile(r'.*\.positional_encoding'), 'bilinear'),
    (re.compile(r'.*\.relative_position_bias_table'), 'bicubic'),
)
EXTRA_TOKENS = {1: '[0] (class token)', 2: '[0:2] (class and distillation token)'}
# A Swin classifier has one norm, after the last of its four stages: there the backbone has norm3.
MOVED = {'norm.weight': 'norm3.weight', 'norm.bias': 'norm3.bias'}
MIN_SHARE = 0.5


@dataclass
class Report:
    """What a checkpoint and a model have in common.

    Attributes:
        loaded: the model's tensors found in the file, by name and shape.
        moved: those of them that the file has under another name, as 'norm.. -> norm3..'.
        converted: those of them that were made from softmax attention, see `mmca.transfer`.
        resized: position embeddings and relative position tables brought to the model's grid.
        dropped: the file's tensors left out on purpose: class heads, class tokens, index buffers,
            what only softmax attention needs.
        missing: the model's tensors that the file lacks.
        unexpected: the file's tensors that the model lacks.
        mismatched: tensors of one name and two shapes, as 'name: file (..), model (..)'.
        source: where in the file the weights were, and whose names they had.
    """

    loaded: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    converted: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    source: str = ''

    @property
    def share(self) -> float:
        """The part of the model's own tensors that the file fills, from 0 to 1."""
        own = len(self.loaded) + len(self.missing) + len(self.mismatched)
        return len(self.loaded) / own if own else 1.0

    @property
    def counts(self) -> str:
        """The counts alone, in one line."""
        return ', '.join(f'{len(names)} {kind}' for kind, names in self._kinds())

    def __str__(self) -> str:
        """The counts, the source, and every name, in which '*' stands for several numbers."""
        lines = [self.counts, f'  source: {self.source}'] if self.source else [self.counts]
        lines += [f'  {kind}: {_collapse(names)}' for kind, names in self._kinds() if names]
        return '\n'.join(lines)

    def _kinds(self) -> list[tuple[str, list[str]]]:
        return [(kind, names) for kind, names in vars(self).items() if kind != 'source']


def _collapse(names: Iterable[str]) -> str:
    """All names in few words: 'block1.*.attn.q.weight (3)' for those of three blocks."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r'(?<=\.)\d+(?=\.)', '*', name), []).append(name)
    return ', '.join(
        f'{pattern} ({len(group)})' if len(group) > 1 else group[0]
        for pattern, group in groups.items()
    )


@dataclass(frozen=True)
class Checkpoint:
    """The weights in a file, and what lies around them.

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
        """In words, with what is to be known of averaged weights in the same file."""
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

    Nothing in the file is executed, see `mmca.safe_pickle`: optimizer states, configs and log
    buffers beside the weights are skipped.

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
    if not path.is_file():
        raise InputError(f'checkpoint not found: {path}')
    read = _read_safetensors if path.suffix == '.safetensors' else _read_pickled
    try:
        content = read(path)
    except InputError:
        raise
    except Exception as error:  # damaged bytes can make an unpickler raise anything
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f'cannot read the checkpoint {path}: it is damaged, incomplete or none '
            f'({reason[0][:120]})'
        ) from error
    if isinstance(content, safe_pickle.Inert):
        raise InputError(
            f'{path} holds a whole pickled object, which is not run; save its state_dict() instead'
        )
    if not isinstance(content, Mapping):
        raise InputError(f'{path} holds a {type(content).__name__}, not a state dict')
    checkpoint = _unwrap(content)
    if checkpoint is None:
        raise InputError(f'{path} holds no tensors')
    return checkpoint


def _read_pickled(path: Path) -> Any:
    with warnings.catch_warnings():
        # torch.load hands TorchScript archives, which hold code, to torch.jit.load: it says so
        # first, and stops there.
        warnings.filterwarnings('error', '.*TorchScript archive')
        # weights_only=True would refuse every file with more than tensors; this unpickler reads
        # the tensors of such files too, and executes as little.
        return torch.load(path, map_location='cpu', weights_only=False, pickle_module=safe_pickle)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise InputError(
            f'{path}: reading .safetensors needs a package: pip install safetensors'
        ) from error
    return load_file(path)


def _unwrap(content: Mapping, keys: tuple[str, ...] = ()) -> Checkpoint | None:
    """The innermost state dict; None where there are no tensors."""
    for name in WRAPPINGS if len(keys) < MAX_NESTING else ():
        inside = content.get(name)
        found = _unwrap(inside, (*keys, name)) if isinstance(inside, Mapping) else None
        if found is not None:
            beside = tuple(str(key) for key in content if key != name)
            return Checkpoint(found.tensors, found.keys, (*beside, *found.skipped))
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if not tensors:
        return None
    skipped = tuple(str(key) for key in content if key not in tensors)
    return Checkpoint({k.removeprefix('module.'): v for k, v in tensors.items()}, keys, skipped)


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file, out of the wrappings that are in use.

    Args:
        path: see :func:`read_checkpoint`.

    Returns:
        Name -> tensor, on the CPU; 'module.' prefixes removed.

    Raises:
        InputError: see :func:`read_checkpoint`.
    """
    return read_checkpoint(path).tensors


def match(state_dict: Mapping[str, Tensor], model: nn.Module) -> Report:
    """Compare a state dict with a model by name and shape; changes neither.

    Args:
        state_dict: name -> tensor.
        model: any module.

    Returns:
        The report, with `moved`, `converted`, `resized`, `dropped` and `source` empty.
    """
    report = Report()
    own = model.state_dict()
    for name, tensor in own.items():
        if name not in state_dict:
            report.missing.append(name)
        elif state_dict[name].shape != tensor.shape:
            shapes = f'file {tuple(state_dict[name].shape)}, model {tuple(tensor.shape)}'
            report.mismatched.append(f'{name}: {shapes}')
        else:
            report.loaded.append(name)
    report.unexpected = [name for name in state_dict if name not in own]
    return report


def fit(
    checkpoint: Checkpoint, model: nn.Module, gain: float = 1.0
) -> tuple[dict[str, Tensor], Report]:
    """Bring a file's weights to the names and sizes of a backbone; changes neither.

    The backbone's tensors are found by their common prefix, in a whole detector too, and renamed
    to the original names (`mmca.dialects`). The class head, class and distillation tokens (with
    their places in the position embedding) and index buffers are dropped, position embeddings and
    tables of another grid resized, a Swin classifier's last norm becomes `norm3`, and softmax
    attention becomes circulant where the model has circulant blocks (`mmca.transfer`).

    Args:
        checkpoint: from :func:`read_checkpoint`.
        model: a backbone of `mmca.backbones`, also one on the meta device.
        gain: factor of the logits of circulant blocks made from softmax attention.

    Returns:
        The state dict for the model, with what is unexpected or mismatched left in, and the
        report.

    Raises:
        InputError: a tensor that cannot be what its name says.
    """
    prefix = find_prefix(checkpoint.tensors)
    inside = {
        name.removeprefix(prefix): tensor
        for name, tensor in checkpoint.tensors.items()
        if name.startswith(prefix)
    }
    state_dict, dialect = to_original_names(inside)
    family = guess_family(state_dict) or 'unknown'
    state_dict, converted, unused = circulant_from_softmax(state_dict, model, gain)
    state_dict, adapted = _adapt(state_dict, model.state_dict())
    report = match(state_dict, model)
    report.moved, report.resized, report.converted = adapted.moved, adapted.resized, converted
    report.dropped = adapted.dropped + unused
    total = len(checkpoint.tensors)
    under = f', under {prefix!r} ({len(inside)} of {total} tensors)' if prefix else ''
    report.source = f'{checkpoint.place}{under}; names: {dialect or "original"}; family: {family}'
    return state_dict, report


def load_pretrained(
    model: nn.Module, path: str | Path, min_share: float = MIN_SHARE, gain: float = 1.0
) -> str:
    """Fill a backbone from a checkpoint file of its family.

    Files of the original repositories, OpenMMLab and timm are taken, of a backbone, a classifier
    or a whole detector or segmentor; see :func:`fit` for what is changed.

    Args:
        model: a backbone of `mmca.backbones`.
        path: the checkpoint file, see :func:`read_checkpoint`.
        min_share: the least part of the model's tensors that the file must fill, from 0 to 1.
        gain: factor of the logits of circulant blocks made from softmax attention, see
            `mmca.transfer`; tools/softmax_start.py helps to choose it.

    Returns:
        A report in words: what was loaded, moved, converted, resized, dropped, missing, unexpected.

    Raises:
        InputError: unreadable file, or fewer than min_share of the model's tensors in it; the
            model is then as it was.
    """
    state_dict, report = fit(read_checkpoint(path), model, gain)
    name = type(model).__name__
    if report.share < min_share:
        family = guess_family(state_dict)
        looks = f'it looks like {family} weights' if family else 'is it of another model?'
        raise InputError(
            f'{path} does not fit {name}: {report.counts}; {report.share:.1%} of its tensors were '
            f'found, at least {min_share:.1%} are asked for; {looks} '
            f'(python tools/inspect_checkpoint.py {path} shows what it fits)'
        )
    model.load_state_dict({key: state_dict[key] for key in report.loaded}, strict=False)
    return f'{name}: weights from {path}: {report}'


def _adapt(
    state_dict: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], Report]:
    """Drop what only a classifier needs, put its last norm into place, resize positions.

    Returns:
        The state dict for the model, and a report of what was dropped, moved and resized.
    """
    adapted, report = {}, Report()
    for name, tensor in state_dict.items():
        new_name = MOVED.get(name)
        if (
            name not in own
            and new_name in own
            and new_name not in state_dict
            and own[new_name].shape == tensor.shape
        ):
            adapted[new_name] = tensor
            report.moved.append(f'{name} -> {new_name}')
        elif name not in own and CLASSIFIER_ONLY.fullmatch(name):
            report.dropped.append(name)
        elif name in own and own[name].shape != tensor.shape:
            adapted[name] = _resize(name, tensor, own[name], report)
        else:
            adapted[name] = tensor
    return adapted, report


def _resize(name: str, tensor: Tensor, own: Tensor, report: Report) -> Tensor:
    """What was learned on a square grid, for the model's grid; anything else as it is."""
    mode = next((mode for pattern, mode in RESIZED if pattern.fullmatch(name)), None)
    alike = tensor.dim() == own.dim() and tensor.shape[:-2] == own.shape[:-2]
    if mode is None or not alike or tensor.shape[-1] != own.shape[-1]:
        return tensor
    side, own_side = math.isqrt(tensor.shape[-2]), math.isqrt(own.shape[-2])
    extra = tensor.shape[-2] - side**2
    allowed = (0, *EXTRA_TOKENS) if name.startswith('pos_embed') else (0,)
    if side == 0 or extra not in allowed or own_side**2 != own.shape[-2]:
        return tensor
    if extra:
        report.dropped.append(name + EXTRA_TOKENS[extra])
    if side != own_side:
        report.resized.append(name)
    tokens = tensor[..., extra:, :].float().reshape(1, side**2, -1)
    return resize_tokens(tokens, (own_side, own_side), mode).reshape(own.shape)
