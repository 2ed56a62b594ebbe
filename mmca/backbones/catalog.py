"""Backbones by name, and the weights that fit them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmca import backbones
from mmca.backbones.base import Backbone
from mmca.checkpoint import (
    KNOWN,
    Checkpoint,
    KnownWeights,
    Report,
    deit_options,
    fit,
    guess_family,
    read_checkpoint,
)
from mmca.errors import InputError
from mmca.layers.attention import get_attention, registered_attentions
from mmca.registry import MODELS

IMAGENET = 'imagenet'


def short_name(kind: str, arch: str) -> str:
    """The name of a class and a size in configs.

    Example:
        >>> short_name('CAPVT', 'tiny'), short_name('FLattenPVTv2', 'b0')
        ('ca_pvt_t', 'flatten_pvtv2_b0')
    """
    family = re.sub('^(CA|FLatten)', r'\1_', kind).lower()
    return f'{family}_{arch if arch[-1].isdigit() else arch[0]}'


def find_backbone(name: str) -> tuple[type[Backbone], str]:
    """Find class and size of a backbone by its name in configs, such as 'ca_pvt_t'.

    Raises:
        InputError: unknown backbone.
    """
    known = _all_backbones()
    if name not in known:
        near = get_close_matches(name, known, n=5) or known
        raise InputError(f'unknown backbone {name!r}: choose from {", ".join(near)}')
    return known[name]


def names_for(weights: KnownWeights) -> list[str]:
    """Names of the backbones that load or start from the weights."""
    return [
        name
        for name, (cls, arch) in _all_backbones().items()
        if arch == weights.arch and weights.backbone in [kind.__name__ for kind in cls.__mro__]
    ]


def _all_backbones() -> dict[str, tuple[type[Backbone], str]]:
    classes = [getattr(backbones, kind) for kind in backbones.__all__]
    return {short_name(c.__name__, arch): (c, arch) for c in classes for arch in c.arch_zoo}


def imagenet_weights(name: str) -> str:
    """Name in `mmca.checkpoint.KNOWN` of the weights that a backbone starts from.

    They are the backbone's own if published, otherwise those of its softmax original.

    Raises:
        InputError: unknown backbone, or one without known weights.

    Example:
        >>> imagenet_weights('ca_deit_s'), imagenet_weights('ca_pvt_s')
        ('ca_deit_small', 'pvt_small')
    """
    cls, arch = find_backbone(name)
    for kind in cls.__mro__:
        for known in KNOWN.values():
            if (known.backbone, known.arch) == (kind.__name__, arch):
                return known.name
    raise InputError(f'no ImageNet weights are known for {name}: pass a file')


def create_backbone(
    name: str,
    weights: str | Path | None = None,
    out_indices: Sequence[int] | None = None,
    **options: Any,
) -> Backbone:
    """Create a backbone for any PyTorch network; the only OpenMMLab dependency is mmengine.

    Args:
        name: as in configs: 'ca_pvt_t', 'ca_swin_s', 'ca_deit_b', 'flatten_pvt_t', 'pvt_t', ...
        weights: a file, a URL, a name such as 'pvt_tiny' (see `mmca weights`), or 'imagenet' for
            weights that fit; None starts from scratch.
        out_indices: stages whose maps are returned, from 0; None is all. DeiT has one map.
        options: as for :class:`mmca.backbones.Backbone`.

    Returns:
        A module that maps images (B, 3, H, W) to a tuple of maps (B, C_i, H_i, W_i), with
        `channels` (the C_i) and `strides` (H / H_i) as tuples of int.

    Raises:
        InputError: unknown name, weights that are missing or do not fit, or bad options.

    Example:
        >>> import torch, mmca
        >>> model = mmca.create_backbone('ca_pvt_t', out_indices=(1, 2, 3))
        >>> model.channels, model.strides
        ((128, 320, 512), (8, 16, 32))
        >>> [tuple(out.shape) for out in model(torch.zeros(1, 3, 64, 96))]
        [(1, 128, 8, 12), (1, 320, 4, 6), (1, 512, 2, 3)]
    """
    cls, arch = find_backbone(name)
    settings = {'type': cls, 'arch': arch, 'out_indices': out_indices, **options}
    if weights is not None:
        weights = imagenet_weights(name) if weights == IMAGENET else str(weights)
        settings = start_settings(settings, read_checkpoint(weights))
        settings['init_cfg'] = {'type': 'Pretrained', 'checkpoint': weights}
    del settings['type']  # the registry would import the parts of mmca that need mmcv
    model = cls(**settings)
    if weights is not None:
        model.init_weights()
    return model


@dataclass(frozen=True)
class Candidate:
    """A backbone of mmca compared with a checkpoint.

    Attributes:
        name: class, such as 'CAPVT'.
        arch: size, such as 'tiny'.
        report: comparison of the checkpoint with the backbone.
    """

    name: str
    arch: str
    report: Report

    @property
    def similarity(self) -> float:
        """Tensors that file and model share, unconverted, out of all tensors in either.

        Unlike the filled fraction, it distinguishes sizes: a tiny PVT is a part of a small one.
        """
        report = self.report
        either = (report.loaded, report.missing, report.mismatched, report.unexpected)
        shared = len(report.loaded) - len(report.converted)
        return shared / max(sum(map(len, either)), 1)


def find_backbones(checkpoint: Checkpoint) -> list[Candidate]:
    """Compare a checkpoint with the backbones of its family; return the most similar first."""
    family = (guess_family(fit(checkpoint, nn.Module())[0]) or '').rpartition('-')[2]
    methods = {attention.method.rstrip('-') for attention in registered_attentions().values()}
    found = []
    for name in backbones.__all__:
        cls, options = getattr(backbones, name), {}
        if issubclass(cls, backbones.DeiT):
            options['pos_embed'] = deit_options(checkpoint)['pos_embed']
        for arch in cls.arch_zoo if name.removesuffix(family) in methods else ():
            with torch.device('meta'):
                model = cls(arch, **options)
            found.append(Candidate(name, arch, fit(checkpoint, model)[1]))
    found = [candidate for candidate in found if candidate.report.loaded]
    return sorted(found, key=lambda candidate: -candidate.similarity)


def best_fit(file: str | Path) -> tuple[str, str]:
    """Find class and size of the backbone that fits a checkpoint file best.

    Raises:
        InputError: none fits.
    """
    candidates = find_backbones(read_checkpoint(file))
    if not candidates:
        raise InputError(f'{file} does not fit any backbone of mmca; run `mmca inspect {file}`')
    return candidates[0].name, candidates[0].arch


def start_settings(settings: Mapping, checkpoint: Checkpoint) -> dict:
    """Adapt a backbone's settings to the weights that it starts from.

    A DeiT gets a position embedding if the file has one. Attentions that start from softmax weights
    get their `softmax_options`, others the options in the file; options in the settings win.
    """
    settings = {key: value for key, value in settings.items() if key != 'init_cfg'}
    cls = settings['type']
    cls = MODELS.get(cls) if isinstance(cls, str) else cls
    if issubclass(cls, backbones.DeiT):
        settings['pos_embed'] = deit_options(checkpoint)['pos_embed']
    with torch.device('meta'):
        model = cls(**{key: value for key, value in settings.items() if key != 'type'})
    attn_cfg = dict(checkpoint.meta.get('attn_cfg') or {})
    if converted := fit(checkpoint, model)[1].converted:
        for name in map(cls.attention_name, model.attn):
            attention = get_attention(name)
            own = [n for n in model.state_dict() if n.endswith(f'.attn.{attention.signature}')]
            if attention.softmax_options and set(own) <= set(converted):
                attn_cfg[name] = dict(attention.softmax_options)
    for name, options in cls.resolve_attn_cfg(settings.get('attn_cfg')).items():
        attn_cfg[name] = {**attn_cfg.get(name, {}), **options}
    return {**settings, 'attn_cfg': attn_cfg} if attn_cfg else settings
