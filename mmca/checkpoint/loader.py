"""Loading third-party checkpoints into backbones: rename, resize, match, report."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from mmca.checkpoint.key_mapping import find_prefix, guess_family, to_original_names
from mmca.checkpoint.reader import Checkpoint, read_checkpoint
from mmca.checkpoint.softmax_init import start_from_softmax
from mmca.errors import InputError
from mmca.layers import Attention
from mmca.layers.position import resize_tokens

CLASSIFIER_ONLY = re.compile(
    r'head(_dist)?\..+|norm\.(weight|bias)|(cls|dist)_token|.*relative_position_index|.*attn_mask'
)
POSITION_EMBEDDING = re.compile(r'pos_embed\d?')
# What precedes the grid in a position embedding: (first, end) of what is dropped -> its name.
EXTRA_TOKENS = {
    (0, 1): '[0] (class token)',
    (0, 2): '[0:2] (class and distillation token)',
    (1, 2): '[1] (distillation token)',
}
# A Swin classifier has one norm, after the last of its four stages; the backbone's is norm3.
MOVED = {'norm.weight': 'norm3.weight', 'norm.bias': 'norm3.bias'}
MIN_SHARE = 0.5


@dataclass
class Report:
    """What a checkpoint and a model have in common.

    Attributes:
        loaded: the model's tensors found in the file, by name and shape.
        moved: those of them that the file has under another name, as 'norm.. -> norm3..'.
        converted: those of them that were computed from softmax attention, see
            `mmca.checkpoint.softmax_init`.
        resized: position embeddings and tables resized to the model's grid.
        dropped: the file's tensors left out on purpose: class heads, class tokens, index buffers,
            what only softmax attention needs.
        missing: the model's tensors that the file lacks.
        unexpected: the file's tensors that the model lacks.
        mismatched: tensors of one name and two shapes, as 'name: file (..), model (..)'.
        source: where in the file the weights were, and which names they had.
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
    to the original names (`mmca.checkpoint.key_mapping`). The class head, class and distillation
    tokens (with their part of the position embedding) and index buffers are dropped, position
    embeddings and tables of another grid resized, a Swin classifier's last norm becomes `norm3`,
    and attentions other than the file's start from its softmax attention
    (`mmca.checkpoint.softmax_init`).

    Args:
        checkpoint: from :func:`read_checkpoint`.
        model: a backbone of `mmca.backbones`, also one on the meta device.
        gain: factor of the logits of attentions that start from softmax weights.

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
    state_dict, mapping = to_original_names(inside)
    family = guess_family(state_dict) or 'unknown'
    state_dict, converted, unused = start_from_softmax(state_dict, model, gain)
    state_dict, adapted = _adapt(state_dict, model)
    report = match(state_dict, model)
    report.moved, report.resized, report.converted = adapted.moved, adapted.resized, converted
    report.dropped = adapted.dropped + unused
    total = len(checkpoint.tensors)
    under = f', under {prefix!r} ({len(inside)} of {total} tensors)' if prefix else ''
    report.source = f'{checkpoint.place}{under}; names: {mapping or "original"}; family: {family}'
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
        gain: factor of the logits of attentions that start from softmax weights, see
            `mmca.checkpoint.softmax_init`.

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
            f'(`mmca inspect {path}` shows what it fits)'
        )
    model.load_state_dict({key: state_dict[key] for key in report.loaded}, strict=False)
    return f'{name}: weights from {path}: {report}'


def starts_with(name: str, init_cfg: Mapping | None) -> bool:
    """Whether a backbone's first weights hold a tensor.

    Args:
        name: of the backbone's tensor, one that all key mappings keep, such as 'pos_embed'.
        init_cfg: None, or as a config gives it; a file that is not there holds nothing.

    Returns:
        Whether the file of a 'Pretrained' init_cfg has it.

    Raises:
        InputError: the file cannot be read.
    """
    if init_cfg is None or init_cfg.get('type') != 'Pretrained':
        return False
    path = Path(init_cfg.get('checkpoint') or '').expanduser()
    if not path.is_file():
        return False
    tensors = read_checkpoint(path).tensors
    return find_prefix(tensors) + name in tensors


def _adapt(state_dict: Mapping[str, Tensor], model: nn.Module) -> tuple[dict[str, Tensor], Report]:
    """Drop what only a classifier needs, rename its last norm, resize what depends on the grid.

    Returns:
        The state dict for the model, and a report of what was dropped, moved and resized.
    """
    adapted, report, own = {}, Report(), model.state_dict()
    modes = _resize_modes(model)
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
        elif name in modes and own[name].shape != tensor.shape:
            adapted[name] = _resize(name, tensor, own[name], modes[name], report)
        else:
            adapted[name] = tensor
    return adapted, report


def _resize_modes(model: nn.Module) -> dict[str, str]:
    """Name of a parameter that belongs to a grid or window size -> how it is interpolated."""
    modes = {n: 'bilinear' for n, _ in model.named_parameters() if POSITION_EMBEDDING.fullmatch(n)}
    for path, module in model.named_modules():
        if isinstance(module, Attention):
            modes |= {f'{path}.{name}': mode for name, mode in module.resized_parameters.items()}
    return modes


def _resize(name: str, tensor: Tensor, own: Tensor, mode: str, report: Report) -> Tensor:
    """What was learned on a square grid, for the model's grid; anything else as it is."""
    alike = tensor.dim() == own.dim() and tensor.shape[:-2] == own.shape[:-2]
    if not alike or tensor.shape[-1] != own.shape[-1]:
        return tensor
    side, own_side = math.isqrt(tensor.shape[-2]), math.isqrt(own.shape[-2])
    extra, own_extra = tensor.shape[-2] - side**2, own.shape[-2] - own_side**2
    known = extra == own_extra or (own_extra, extra) in EXTRA_TOKENS
    if side == 0 or own_extra > 1 or not known or (extra and not name.startswith('pos_embed')):
        return tensor
    if extra > own_extra:
        report.dropped.append(name + EXTRA_TOKENS[own_extra, extra])
    if side != own_side:
        report.resized.append(name)
    tokens = tensor.float().reshape(1, -1, tensor.shape[-1])
    kept, tokens = tokens[:, :own_extra], tokens[:, extra:]
    grid = resize_tokens(tokens, (own_side, own_side), mode)
    return torch.cat([kept, grid], 1).reshape(own.shape)
