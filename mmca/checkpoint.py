"""Reading other people's checkpoints: unwrap, match by name and shape, report."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from mmca import safe_pickle
from mmca.errors import InputError
from mmca.layers.position import resize_tokens

WRAPPINGS = ('state_dict', 'model')
CLASSIFIER_ONLY = re.compile(
    r'(head|norm)\.(weight|bias)|cls_token|.*relative_position_index|.*attn_mask'
)
MIN_SHARE = 0.5


@dataclass
class Report:
    """What a checkpoint and a model have in common.

    Attributes:
        loaded: the model's tensors found in the file, by name and shape.
        missing: the model's tensors that the file lacks.
        unexpected: the file's tensors that the model lacks.
        mismatched: tensors of one name and two shapes, as 'name: file (..), model (..)'.
        dropped: the file's tensors left out on purpose: class heads, class tokens, index buffers.
        resized: position embeddings and relative position tables brought to the model's grid.
    """

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """The part of the model's own tensors that the file fills, from 0 to 1."""
        own = len(self.loaded) + len(self.missing) + len(self.mismatched)
        return len(self.loaded) / own if own else 1.0

    def __str__(self) -> str:
        counts = ('loaded', 'resized', 'missing', 'unexpected', 'mismatched', 'dropped')
        line = ', '.join(f'{len(getattr(self, name))} {name}' for name in counts)
        names = [
            f'  {name}: {_shorten(getattr(self, name))}'
            for name in counts[1:]
            if getattr(self, name)
        ]
        return '\n'.join([line, *names])

    @property
    def counts(self) -> str:
        """The counts alone, in one line."""
        return str(self).splitlines()[0]


def _shorten(names: list[str], most: int = 6) -> str:
    rest = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(names[:most]) + rest


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file, out of the wrappings that are in use.

    Nothing in the file is executed, see `mmca.safe_pickle`: optimizer states, configs and log
    buffers beside the weights are skipped.

    Args:
        path: a file written by torch.save: a state dict, or one under 'state_dict' or 'model'.

    Returns:
        Name -> tensor, on the CPU; 'module.' prefixes removed.

    Raises:
        InputError: no such file, not a checkpoint, damaged, or no tensors in it.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f'checkpoint not found: {path}')
    try:
        # weights_only=True would refuse every file with more than tensors; this unpickler reads
        # the tensors of such files too, and executes as little.
        content = torch.load(
            path, map_location='cpu', weights_only=False, pickle_module=safe_pickle
        )
    except Exception as error:  # damaged bytes can make an unpickler raise anything
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f'cannot read the checkpoint {path}: it is damaged, incomplete or none '
            f'({reason[0][:120]})'
        ) from error
    for name in WRAPPINGS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping):
        raise InputError(f'{path} holds a {type(content).__name__}, not a state dict')
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if not tensors:
        raise InputError(f'{path} holds no tensors')
    return {k.removeprefix('module.'): v for k, v in tensors.items()}


def match(state_dict: Mapping[str, Tensor], model: nn.Module) -> Report:
    """Compare a state dict with a model by name and shape; changes neither.

    Args:
        state_dict: name -> tensor.
        model: any module.

    Returns:
        The report, with `resized` and `dropped` empty.
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


def load_pretrained(model: nn.Module, path: str | Path, min_share: float = MIN_SHARE) -> str:
    """Fill a backbone from a file with its family's original parameter names.

    The class head, the class token (with its place in the position embedding) and index buffers
    are dropped, position embeddings of another size resized bilinearly; the rest goes by name.
    The weights of a whole detector or segmentor are taken from under 'backbone.'.

    Args:
        model: a backbone of `mmca.backbones`.
        path: the checkpoint file.
        min_share: the least part of the model's tensors that the file must fill.

    Returns:
        A report in words: what was loaded, resized, missing, unexpected, dropped.

    Raises:
        InputError: unreadable file, or fewer than min_share of the model's tensors in it.
    """
    state_dict = read_state_dict(path)
    inside = {
        name.removeprefix('backbone.'): tensor
        for name, tensor in state_dict.items()
        if name.startswith('backbone.')
    }
    state_dict = inside or state_dict
    state_dict, dropped, resized = _adapt(state_dict, model.state_dict())
    report = match(state_dict, model)
    report.dropped, report.resized = dropped, resized
    name = type(model).__name__
    if report.share < min_share:
        raise InputError(
            f'{path} does not fit {name}: {report.counts}; fewer than {min_share:.0%} of its '
            'tensors were found. Is it a checkpoint of another model?'
        )
    model.load_state_dict({key: state_dict[key] for key in report.loaded}, strict=False)
    return f'{name}: weights from {path}: {report}'


def _adapt(
    state_dict: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """Drop what only a classifier needs, resize positions.

    Returns:
        The state dict for the model, the names dropped, the names resized.
    """
    adapted, dropped, resized = {}, [], []
    for name, tensor in state_dict.items():
        if name not in own and CLASSIFIER_ONLY.fullmatch(name):
            dropped.append(name)
            continue
        if name in own and own[name].shape != tensor.shape:
            if name.startswith('pos_embed'):
                tensor, with_token = _resize_pos_embed(tensor, own[name])
                dropped += [f'{name}[0] (class token)'] if with_token else []
                resized.append(name)
            elif name.endswith('relative_position_bias_table'):
                side = math.isqrt(own[name].shape[0])
                tensor = resize_tokens(tensor[None].float(), (side, side), 'bicubic')[0]
                resized.append(name)
        adapted[name] = tensor
    return adapted, dropped, resized


def _resize_pos_embed(tokens: Tensor, own: Tensor) -> tuple[Tensor, bool]:
    """A position embedding for the model's grid, and whether a class token's was cut off."""
    with_token = math.isqrt(tokens.shape[1]) ** 2 != tokens.shape[1]
    side = math.isqrt(own.shape[1])
    return resize_tokens(tokens[:, int(with_token) :].float(), (side, side)), with_token
