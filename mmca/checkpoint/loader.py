"""Load third-party checkpoints into backbones: rename, resize, match, report."""

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
# Tokens before the grid in a position embedding: (model's, file's) -> the file's surplus.
EXTRA_TOKENS = {
    (0, 1): '[0] (class token)',
    (0, 2): '[0:2] (class and distillation token)',
    (1, 2): '[1] (distillation token)',
}
# A Swin classifier has one norm, after the last of its four stages: a backbone's norm3.
MOVED = {'norm.weight': 'norm3.weight', 'norm.bias': 'norm3.bias'}
MIN_SHARE = 0.5


@dataclass
class Report:
    """Comparison of a checkpoint with a model.

    Attributes:
        loaded: the model's tensors found in the file by name and shape.
        moved: loaded tensors with another name in the file, as 'norm.. -> norm3..'.
        converted: loaded tensors computed from softmax attention, see
            `mmca.checkpoint.softmax_init`.
        resized: position embeddings and tables resized to the model's grid.
        dropped: the file's tensors left out on purpose: class heads, class tokens, index buffers,
            parts of softmax attention.
        missing: the model's tensors that the file lacks.
        unexpected: the file's tensors that the model lacks.
        mismatched: tensors with different shapes, as 'name: file (..), model (..)'.
        source: location of the weights in the file, and the naming scheme.
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
        """Fraction of the model's tensors that the file fills."""
        own = len(self.loaded) + len(self.missing) + len(self.mismatched)
        return len(self.loaded) / own if own else 1.0

    @property
    def counts(self) -> str:
        """The counts in one line."""
        return ', '.join(f'{len(names)} {kind}' for kind, names in self._kinds())

    def __str__(self) -> str:
        """The counts, the source and all names; '*' stands for several numbers."""
        lines = [self.counts, f'  source: {self.source}'] if self.source else [self.counts]
        lines += [f'  {kind}: {_collapse(names)}' for kind, names in self._kinds() if names]
        return '\n'.join(lines)

    def _kinds(self) -> list[tuple[str, list[str]]]:
        return [(kind, names) for kind, names in vars(self).items() if kind != 'source']


def _collapse(names: Iterable[str]) -> str:
    """Abbreviate names: 'block1.*.attn.q.weight (3)' for three blocks."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r'(?<=\.)\d+(?=\.)', '*', name), []).append(name)
    return ', '.join(
        f'{pattern} ({len(group)})' if len(group) > 1 else group[0]
        for pattern, group in groups.items()
    )


def match(state_dict: Mapping[str, Tensor], model: nn.Module) -> Report:
    """Compare a state dict with a model by name and shape; neither changes.

    The report's `moved`, `converted`, `resized`, `dropped` and `source` are empty.
    """
    report, own = Report(), model.state_dict()
    report.missing = [name for name in own if name not in state_dict]
    report.unexpected = [name for name in state_dict if name not in own]
    for name in (name for name in own if name in state_dict):
        shape, own_shape = tuple(state_dict[name].shape), tuple(own[name].shape)
        if shape == own_shape:
            report.loaded.append(name)
        else:
            report.mismatched.append(f'{name}: file {shape}, model {own_shape}')
    return report


def check_position_embedding(report: Report, source: str | Path, backbone: str = '') -> None:
    """Raise an InputError unless both file and DeiT have a position embedding, or neither.

    Args:
        report: comparison of the file with the model.
        source: the file, for the message.
        backbone: prefix of the backbone's names in the model, such as 'backbone.'.
    """
    name = f'{backbone}pos_embed'
    if name in report.unexpected:
        problem, value = 'contains a position embedding, which the model lacks', True
    elif name in report.missing:
        problem, value = "lacks the model's position embedding", False
    else:
        return
    raise InputError(f'{source} {problem}: set model.backbone.pos_embed={value}')


def fit(
    checkpoint: Checkpoint, model: nn.Module, gain: float = 1.0
) -> tuple[dict[str, Tensor], Report]:
    """Adapt a file's weights to the names and sizes of a backbone; neither changes.

    The backbone is found by its prefix, even in a whole detector, and renamed to the original names
    (`mmca.checkpoint.key_mapping`). Class heads, class and distillation tokens (with their part of
    the position embedding) and index buffers are dropped, position embeddings and tables resized, a
    Swin classifier's last norm becomes `norm3`, and attention other than the file's is initialized
    from its softmax attention (`mmca.checkpoint.softmax_init`).

    Args:
        checkpoint: from :func:`read_checkpoint`.
        model: a backbone of `mmca.backbones`, also on the meta device.
        gain: factor of the logits of attention initialized from softmax weights.

    Returns:
        The state dict for the model, unexpected and mismatched tensors included, and the report.
    """
    prefix, tensors = find_prefix(checkpoint.tensors), checkpoint.tensors
    inside = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    state_dict, mapping = to_original_names(inside)
    family = guess_family(state_dict) or 'unknown'
    state_dict, converted, unused = start_from_softmax(state_dict, model, gain)
    state_dict, adapted = _adapt(state_dict, model)
    report = match(state_dict, model)
    report.moved, report.resized, report.converted = adapted.moved, adapted.resized, converted
    report.dropped = adapted.dropped + unused
    under = f', under {prefix!r} ({len(inside)} of {len(tensors)} tensors)' if prefix else ''
    report.source = f'{checkpoint.place}{under}; names: {mapping or "original"}; family: {family}'
    return state_dict, report


def load_pretrained(
    model: nn.Module, checkpoint: str | Path, min_share: float = MIN_SHARE, gain: float = 1.0
) -> str:
    """Fill a backbone from a checkpoint file of its family.

    It may come from the original repositories, OpenMMLab or timm, and contain a backbone, a
    classifier or a whole detector; :func:`fit` adapts it.

    Args:
        model: a backbone of `mmca.backbones`.
        checkpoint: the file, see :func:`read_checkpoint`.
        min_share: least fraction of the model's tensors that the file must fill.
        gain: factor of the logits of attention initialized from softmax weights.

    Returns:
        The report in words.

    Raises:
        InputError: the file cannot be read, fills less than min_share, or differs from the model
            in having a position embedding; the model stays unchanged.
    """
    state_dict, report = fit(read_checkpoint(checkpoint), model, gain)
    name = type(model).__name__
    if report.share < min_share:
        family = guess_family(state_dict)
        looks = f'it looks like {family} weights' if family else 'it may be from another model'
        raise InputError(
            f'{checkpoint} does not fit {name}: {report.counts}; it fills {report.share:.1%} of '
            f'the tensors, required are {min_share:.1%}; {looks} '
            f'(`mmca inspect {checkpoint}` shows what it fits)'
        )
    check_position_embedding(report, checkpoint)
    model.load_state_dict({key: state_dict[key] for key in report.loaded}, strict=False)
    return f'{name}: weights from {checkpoint}: {report}'


def deit_options(checkpoint: Checkpoint) -> dict[str, bool]:
    """Options `pos_embed` and `with_cls_token` of a DeiT that agrees with a checkpoint."""
    prefix = find_prefix(checkpoint.tensors)
    names = {'pos_embed': 'pos_embed', 'with_cls_token': 'cls_token'}
    return {option: prefix + name in checkpoint.tensors for option, name in names.items()}


def _adapt(state_dict: Mapping[str, Tensor], model: nn.Module) -> tuple[dict[str, Tensor], Report]:
    """Drop a classifier's tensors, rename its last norm, resize positions; report all three."""
    adapted, report, own = {}, Report(), model.state_dict()
    modes = _resize_modes(model)
    for name, tensor in state_dict.items():
        new_name = MOVED.get(name)
        free = name not in own and new_name in own and new_name not in state_dict
        if free and own[new_name].shape == tensor.shape:
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
    """Map parameters that depend on a grid or window size to their interpolation modes."""
    modes = {n: 'bilinear' for n, _ in model.named_parameters() if POSITION_EMBEDDING.fullmatch(n)}
    for path, module in model.named_modules():
        if isinstance(module, Attention):
            modes |= {f'{path}.{name}': mode for name, mode in module.resized_parameters.items()}
    return modes


def _resize(name: str, tensor: Tensor, own: Tensor, mode: str, report: Report) -> Tensor:
    """Resize a tensor from a square grid to the model's; return any other tensor as it is."""
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
