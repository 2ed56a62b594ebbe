"""Find the backbones that fit a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import torch
from torch import nn

from mmca import backbones
from mmca.backbones.base import ARCH_LETTERS, Backbone
from mmca.checkpoint import Checkpoint, Report, deit_options, fit, guess_family, read_checkpoint
from mmca.errors import InputError
from mmca.layers.attention import get_attention, registered_attentions
from mmca.registry import MODELS


@dataclass(frozen=True)
class Candidate:
    """A backbone of mmca compared with a checkpoint.

    Attributes:
        name: class, such as 'CAPVT'.
        arch: size, such as 'tiny'.
        report: comparison of the checkpoint with the backbone.
        options: constructor arguments that the checkpoint requires, such as {'pos_embed': True}.
    """

    name: str
    arch: str
    report: Report
    options: dict[str, bool] = field(default_factory=dict)

    @property
    def similarity(self) -> float:
        """Tensors that file and model share, unconverted, out of all tensors in either.

        The filled fraction of the model cannot tell sizes apart: a tiny PVT is part of a small one.
        """
        report = self.report
        either = (report.loaded, report.missing, report.mismatched, report.unexpected)
        shared = len(report.loaded) - len(report.converted)
        return shared / max(sum(map(len, either)), 1)


def named_backbone(name: str) -> tuple[type[Backbone], str]:
    """The class and the size of a backbone by its name in the shipped configs.

    Raises:
        InputError: unknown name; the message suggests the nearest ones.

    Example:
        >>> cls, arch = named_backbone('ca_pvt_s')
        >>> cls.__name__, arch
        ('CAPVT', 'small')
    """
    known = {}
    for kind in backbones.__all__:
        cls = getattr(backbones, kind)
        family = re.sub('^(CA|FLatten)', r'\1_', kind).lower()
        for arch in cls.arch_zoo:
            size = arch[0] if arch in ARCH_LETTERS.values() else arch
            known[f'{family}_{size}'] = cls, arch
    if name not in known:
        near = get_close_matches(name, known, 3)
        raise InputError(
            f'unknown backbone {name!r}; nearest: {", ".join(near)}'
            if near
            else f'unknown backbone {name!r}; known are {", ".join(known)}'
        )
    return known[name]


def find_backbones(checkpoint: Checkpoint) -> list[Candidate]:
    """Compare a checkpoint with the backbones of its family; return the most similar first."""
    family = guess_family(fit(checkpoint, nn.Module())[0]) or ''
    family = family.rpartition('-')[2]
    methods = {attention.method.rstrip('-') for attention in registered_attentions().values()}
    found = []
    for name in backbones.__all__:
        cls, options = getattr(backbones, name), {}
        if issubclass(cls, backbones.DeiT):
            pos_embed = deit_options(checkpoint)['pos_embed']
            options = {'pos_embed': pos_embed} if pos_embed != cls.default_pos_embed else {}
        for arch in cls.arch_zoo if name.removesuffix(family) in methods else ():
            with torch.device('meta'):
                model = cls(arch, **options)
            found.append(Candidate(name, arch, fit(checkpoint, model)[1], options))
    found = [candidate for candidate in found if candidate.report.loaded]
    return sorted(found, key=lambda candidate: candidate.similarity, reverse=True)


def best_fit(file: str | Path) -> tuple[str, str, dict[str, bool]]:
    """Find the backbone that fits a checkpoint file best; raise an InputError if none does.

    Returns class, size and constructor options, such as ('CADeiT', 'tiny', {'pos_embed': True}).
    """
    candidates = find_backbones(read_checkpoint(file))
    if not candidates:
        raise InputError(
            f'{file} fits no backbone of mmca: `mmca inspect {file}` shows its content'
        )
    return candidates[0].name, candidates[0].arch, candidates[0].options


def start_settings(settings: Mapping, checkpoint: Checkpoint) -> dict:
    """Adapt a backbone's settings to the weights that it starts from.

    A DeiT gets a position embedding if the file has one. Attentions that start from softmax weights
    get their `softmax_options`, and others the options of the file if it names them; options in
    the settings win.
    """
    settings = {key: value for key, value in settings.items() if key != 'init_cfg'}
    cls = MODELS.get(settings['type'])
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
