"""Find the backbones that fit a checkpoint."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from mmca import backbones
from mmca.checkpoint import Checkpoint, Report, deit_options, fit, guess_family, read_checkpoint
from mmca.errors import InputError


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


def find_backbones(checkpoint: Checkpoint) -> list[Candidate]:
    """Compare a checkpoint with the backbones of its family; return the most similar first."""
    family = guess_family(fit(checkpoint, nn.Module())[0]) or ''
    family = family.rpartition('-')[2]  # in all methods
    found = []
    for name in backbones.__all__:
        cls, options = getattr(backbones, name), {}
        if issubclass(cls, backbones.DeiT):
            pos_embed = deit_options(checkpoint)['pos_embed']
            options = {'pos_embed': pos_embed} if pos_embed != cls.default_pos_embed else {}
        for arch in cls.arch_zoo if name.endswith(family) else ():
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
