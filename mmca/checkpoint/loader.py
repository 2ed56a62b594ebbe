"""Load checkpoints: third-party ones into backbones, trained ones into whole models."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from mmca.checkpoint.key_mapping import find_prefix, guess_family, to_original_names
from mmca.checkpoint.reader import Checkpoint, read_checkpoint
from mmca.checkpoint.softmax_init import start_from_softmax
from mmca.errors import InputError
from mmca.layers import Attention, build_attention
from mmca.layers.attention import get_attention
from mmca.layers.position import resize_tokens

CLASSIFIER_ONLY = re.compile(
    r'head(_dist)?\..+|norm\.(weight|bias)|(cls|dist)_token|.*relative_position_index|.*attn_mask'
)
POSITION_EMBEDDING = re.compile(r'pos_embed\d?')
EXTRA_TOKENS = ('class', 'distillation')  # before the grid in a position embedding
# A classifier has one norm, after the last of its four stages: norm4 of a CSwin, norm3 of a Swin.
MOVED = {f'norm.{kind}': (f'norm4.{kind}', f'norm3.{kind}') for kind in ('weight', 'bias')}
# Names of the original repositories and timm -> names of mmpretrain with mmca.NormPool as neck.
CLASSIFIER = {
    'head.weight': 'head.fc.weight',
    'head.bias': 'head.fc.bias',
    'norm.weight': 'neck.norm.weight',
    'norm.bias': 'neck.norm.bias',
}
MIN_SHARE = 0.5
TRAINING_ONLY = 'auxiliary_head.'
Use = Literal['test', 'resume', 'start']


@dataclass
class Report:
    """Comparison of a checkpoint with a model, as lists of names.

    Attributes:
        loaded: the model's tensors found in the file by name and shape, among them
        moved: those renamed, as 'norm.. -> norm3..',
        converted: those from softmax attention (`mmca.checkpoint.softmax_init`), and
        resized: those resized to the model's grid.
        dropped: the file's tensors omitted on purpose, see :func:`fit`.
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
        """'3 loaded, 1 missing', without zeros except for '0 loaded'."""
        kinds = [(kind, names) for kind, names in self._kinds() if names or kind == 'loaded']
        return ', '.join(f'{len(names)} {kind}' for kind, names in kinds)

    def __str__(self) -> str:
        """The counts, the source and all names."""
        lines = [self.counts, f'  source: {self.source}'] if self.source else [self.counts]
        lines += [f'  {kind}: {_collapse(names)}' for kind, names in self._kinds() if names]
        return '\n'.join(lines)

    def _kinds(self) -> list[tuple[str, list[str]]]:
        return [(kind, names) for kind, names in vars(self).items() if kind != 'source']


def _collapse(names: Iterable[str]) -> str:
    """Abbreviate names: 'block1.*.attn.q.weight (3)' for three blocks."""
    groups = defaultdict(list)
    for name in names:
        groups[re.sub(r'(?<=\.)\d+(?=\.)', '*', name)].append(name)
    return ', '.join(
        f'{pattern} ({len(group)})' if len(group) > 1 else group[0]
        for pattern, group in groups.items()
    )


def match(state_dict: Mapping[str, Tensor], model: nn.Module) -> Report:
    """Compare a state dict with a model by name and shape."""
    own = model.state_dict()
    report = Report(unexpected=[name for name in state_dict if name not in own])
    for name, tensor in own.items():
        if name not in state_dict:
            report.missing.append(name)
        elif (shape := state_dict[name].shape) == tensor.shape:
            report.loaded.append(name)
        else:
            shapes = f'file {tuple(shape)}, model {tuple(tensor.shape)}'
            report.mismatched.append(f'{name}: {shapes}')
    return report


def check_position_embedding(report: Report, source: str | Path, prefix: str = '') -> None:
    """Raise an InputError if only one of file and DeiT, under `prefix`, has a pos_embed."""
    for names, problem, value in (
        (report.unexpected, 'contains a position embedding, which the model lacks', True),
        (report.missing, "lacks the model's position embedding", False),
    ):
        if f'{prefix}pos_embed' in names:
            raise InputError(f'{source} {problem}: set model.backbone.pos_embed={value}')


def check_attention_options(
    checkpoint: Checkpoint, backbone: nn.Module, source: str | Path
) -> None:
    """Raise an InputError if the file's attention options differ from the backbone's.

    Tensor shapes do not depend on the head size and cannot reveal a mismatch.
    """
    for name, options in (checkpoint.meta.get('attn_cfg') or {}).items():
        kind = get_attention(name)
        for attn in (module for module in backbone.modules() if type(module) is kind):
            expected = build_attention(name, attn.spec, options)
            for key, value in options.items():
                own = getattr(attn, key, None)  # modules differ in their tensors, too
                if not isinstance(own, nn.Module) and own != getattr(expected, key, None):
                    raise InputError(
                        f'{source} needs {name} attention with {key}={value!r}, not {own!r}: set '
                        f'model.backbone.attn_cfg.{name}.{key}={value}'
                    )


def fit(checkpoint: Checkpoint, model: nn.Module) -> tuple[dict[str, Tensor], Report]:
    """Adapt the weights in a file to the names and sizes of a backbone, without changing either.

    - Find the backbone by its prefix, even in a whole detector, and map it to the original names
      (`mmca.checkpoint.key_mapping`).
    - Initialize attention other than the file's from its softmax attention
      (`mmca.checkpoint.softmax_init`).
    - Make a Swin or CSwin classifier's norm the last stage's, and resize position embeddings and
      tables.
    - Drop class heads, class and distillation tokens (with their part of the position embedding),
      index buffers, and the rest of replaced softmax attention.

    Args:
        checkpoint: from :func:`read_checkpoint`.
        model: a backbone of `mmca.backbones`, also on the meta device.

    Returns:
        The state dict for the model, unexpected and mismatched tensors included, and the report.
    """
    prefix, tensors = find_prefix(checkpoint.tensors), checkpoint.tensors
    inside = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    state_dict, mapping = to_original_names(inside)
    family = guess_family(state_dict) or 'unknown'
    state_dict, converted, unused = start_from_softmax(state_dict, model)
    state_dict, adapted = _adapt(state_dict, model)
    under = f', under {prefix!r} ({len(inside)} of {len(tensors)} tensors)' if prefix else ''
    return state_dict, replace(
        match(state_dict, model),
        moved=adapted.moved,
        converted=converted,
        resized=adapted.resized,
        dropped=adapted.dropped + unused,
        source=f'{checkpoint.place}{under}; names: {mapping or "original"}; family: {family}',
    )


def load_pretrained(
    model: nn.Module,
    checkpoint: str | Path,
    min_share: float = MIN_SHARE,
    prefix: str = '',
) -> str:
    """Fill a backbone from a checkpoint file of its family, adapted by :func:`fit`.

    Args:
        model: a backbone of `mmca.backbones`.
        checkpoint: from the original repositories, OpenMMLab or timm: a backbone, a classifier or
            a whole detector.
        min_share: smallest fraction of the model's tensors that the file must fill.
        prefix: of the backbone's names in the file, such as 'backbone.'; found by default.

    Returns:
        The report as text.

    Raises:
        InputError: the file cannot be read, fills less than min_share, or differs from the model in
            attention options or in having a position embedding; the model stays unchanged.
    """
    content = read_checkpoint(checkpoint)
    if prefix:
        names = [key for key in content.tensors if key.startswith(prefix)]
        if not names:
            raise InputError(f'{checkpoint} has no tensor whose name begins with {prefix!r}')
        content = replace(content, tensors={key: content.tensors[key] for key in names})
    state_dict, report = fit(content, model)
    name = type(model).__name__
    if report.share < min_share:
        family = guess_family(state_dict)
        looks = f'it looks like {family} weights' if family else 'it may be from another model'
        raise InputError(
            f'{checkpoint} does not fit {name}: {report.counts}; it fills {report.share:.1%} of '
            f'the tensors, at least {min_share:.1%} are required; {looks} '
            f'(`mmca inspect {checkpoint}` shows what it fits)'
        )
    check_position_embedding(report, checkpoint)
    check_attention_options(content, model, checkpoint)
    model.load_state_dict({key: state_dict[key] for key in report.loaded}, strict=False)
    advice = {
        module.start_advice(): None
        for path, module in model.named_modules()
        if isinstance(module, Attention) and f'{path}.proj.bias' in report.converted
    }
    return '\n'.join([f'{name}: weights from {checkpoint}: {report}', *filter(None, advice)])


def load_trained(model: nn.Module, checkpoint: Checkpoint, source: str | Path) -> Report:
    """Load a whole model for a test, with the arguments and errors of :func:`check_trained`.

    Returns:
        The comparison; `missing` and `mismatched` tensors keep their values.
    """
    report = check_trained(checkpoint, model, source)
    weights = {name: checkpoint.tensors[name] for name in report.loaded}
    model.load_state_dict(weights, strict=False)
    return report


def check_trained(
    checkpoint: Checkpoint, model: nn.Module, source: str | Path, use: Use = 'test'
) -> Report:
    """Compare a checkpoint with a whole model, also on the meta device.

    Args:
        checkpoint: from :func:`read_checkpoint`.
        model: a detector, segmentor or classifier.
        source: the file, for messages.
        use: 'start' (a new training) requires half of the model's tensors, 'resume' all parameters,
            'test' all but those of auxiliary heads.

    Returns:
        The comparison.

    Raises:
        InputError: required parameters are missing or contain NaN, or the position embeddings or
            the attention options differ.
    """
    report = match(checkpoint.tensors, model)
    if report.share < MIN_SHARE:
        raise InputError(
            f'{source} does not match this model: {report.counts}; it contains fewer than '
            f"{MIN_SHARE:.0%} of the model's tensors. To load only a backbone, set "
            'model.backbone.init_cfg'
        )
    check_position_embedding(report, source, 'backbone.')
    check_attention_options(checkpoint, getattr(model, 'backbone', model), source)
    parameters = dict(model.named_parameters()) if use != 'start' else {}
    random = [name for name in parameters if name not in report.loaded]
    if use == 'test':
        random = [name for name in random if not name.startswith(TRAINING_ONLY)]
    if random:
        names = ', '.join(random[:4] + ['...'] * (len(random) > 4))
        raise InputError(
            f'{source} does not match this model: {report.counts}; {names} would keep random values'
        )
    given = [name for name in report.loaded if name in parameters]
    broken = [name for name in given if checkpoint.tensors[name].isnan().any()]
    if broken:
        raise InputError(
            f'{source}: {len(broken)} of {len(given)} parameters contain NaN, such as '
            f'{broken[0]}; training diverged before this checkpoint, so use an older one'
        )
    return report


def classifier_state_dict(checkpoint: Checkpoint, model: nn.Module) -> dict[str, Tensor] | None:
    """Rename a third-party classifier, such as DeiT's release, for mmpretrain's ImageClassifier.

    Returns the state dict of the model, a backbone of mmca with a LinearClsHead; None if the file
    does not fill all of it without conversion.
    """
    own = model.state_dict()
    head = {name: checkpoint.tensors.get(key) for key, name in CLASSIFIER.items() if name in own}
    fits = all(t is not None and t.shape == own[name].shape for name, t in head.items())
    if 'head.fc.weight' not in head or not fits:
        return None
    state_dict, report = fit(checkpoint, model.backbone)
    if report.missing or report.mismatched or report.unexpected or report.converted:
        return None
    return {f'backbone.{name}': state_dict[name] for name in report.loaded} | head


def deit_options(checkpoint: Checkpoint) -> dict[str, bool]:
    """Options `pos_embed` and `with_cls_token` of the DeiT in a checkpoint."""
    tensors, prefix = checkpoint.tensors, find_prefix(checkpoint.tensors)
    return {
        'pos_embed': f'{prefix}pos_embed' in tensors,
        'with_cls_token': f'{prefix}cls_token' in tensors,
    }


def _adapt(state_dict: Mapping[str, Tensor], model: nn.Module) -> tuple[dict[str, Tensor], Report]:
    """Drop a classifier's tensors, rename its last norm, resize positions; report all three."""
    adapted, report, own = {}, Report(), model.state_dict()
    modes = {n: 'bilinear' for n, _ in model.named_parameters() if POSITION_EMBEDDING.fullmatch(n)}
    for path, module in model.named_modules():
        if isinstance(module, Attention):
            modes |= {f'{path}.{name}': mode for name, mode in module.resized_parameters.items()}
    for name, tensor in state_dict.items():
        free = [new for new in MOVED.get(name, ()) if new in own and new not in state_dict]
        if name not in own and free and own[free[0]].shape == tensor.shape:
            adapted[free[0]] = tensor
            report.moved.append(f'{name} -> {free[0]}')
        elif name not in own and CLASSIFIER_ONLY.fullmatch(name):
            report.dropped.append(name)
        elif name in modes and own[name].shape != tensor.shape:
            adapted[name] = _resize(name, tensor, own[name], modes[name], report)
        else:
            adapted[name] = tensor
    return adapted, report


def _resize(name: str, tensor: Tensor, own: Tensor, mode: str, report: Report) -> Tensor:
    """Resize a tensor from a square grid to the model's; return any other tensor as it is."""
    alike = tensor.dim() == own.dim() and tensor.shape[:-2] == own.shape[:-2]
    if not alike or tensor.shape[-1] != own.shape[-1]:
        return tensor
    side, own_side = math.isqrt(tensor.shape[-2]), math.isqrt(own.shape[-2])
    extra, own_extra = tensor.shape[-2] - side**2, own.shape[-2] - own_side**2
    most = len(EXTRA_TOKENS) if POSITION_EMBEDDING.fullmatch(name) else 0
    if side == 0 or own_extra > 1 or not own_extra <= extra <= most:
        return tensor
    if extra > own_extra:
        kinds = ' and '.join(EXTRA_TOKENS[own_extra:extra])
        report.dropped.append(f'{name}[{own_extra}:{extra}] ({kinds} token)')
    if side != own_side:
        report.resized.append(name)
    tokens = tensor.float().reshape(1, -1, tensor.shape[-1])
    kept, tokens = tokens[:, :own_extra], tokens[:, extra:]
    grid = resize_tokens(tokens, (own_side, own_side), mode)
    return torch.cat([kept, grid], 1).reshape(own.shape)
