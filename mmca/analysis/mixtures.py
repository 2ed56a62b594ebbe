"""Search for mixtures of attentions with a low error and a low cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmca.analysis.maps import relative_errors
from mmca.analysis.trained_backbone import converted_backbone
from mmca.layers import registered_attentions
from mmca.layers.attention import attention_letters

TRIED = 4  # replacements measured at every step after the first, which measures all


@dataclass(frozen=True)
class Mixture:
    """A backbone whose softmax attention is replaced in some stages, without training.

    Attributes:
        attn: one letter per stage.
        error: relative error of the backbone's outputs, |y - y_S| / |y_S| with y_S from
            attn='S', mean over outputs and images.
        macs: multiply-adds of the backbone.
    """

    attn: str
    error: float
    macs: int


def replacement_letters(settings: Mapping) -> list[str]:
    """The attentions that can replace softmax in a backbone, those with `replaces_softmax`.

    With a class token, only those that support it.
    """
    known, token = registered_attentions(), settings.get('with_cls_token', False)
    return [
        letter
        for letter, name in attention_letters().items()
        if name in known and known[name].replaces_softmax
        if known[name].special_tokens or not token
    ]


def search_mixtures(
    settings: Mapping,
    checkpoint: str,
    images: Sequence[Tensor],
    macs: Mapping[str, Sequence[int]],
    total: int,
) -> list[Mixture]:
    """Replace softmax attention stage by stage, and run the converted network each time.

    Greedy: each step makes the replacement that adds the smallest error per saved multiply-add.
    Errors propagate through all later blocks, so each step measures the `TRIED` replacements again
    that were best when last measured.

    Args:
        settings: of a backbone of mmca.
        checkpoint: file of softmax weights.
        images: (3, H, W) each, normalized.
        macs: letter -> multiply-adds of every stage, for 'S' and all replacements.
        total: multiply-adds of the backbone with attn='S'.

    Returns:
        The path from softmax in all stages until no replacement saves any multiply-adds.
    """

    @torch.no_grad()
    def outputs(attn: str) -> list[tuple[Tensor, ...]]:
        model = converted_backbone({**settings, 'attn': attn}, checkpoint)
        return [model(image[None]) for image in images]

    def replace(mixture: Mixture, stage: int, letter: str) -> Mixture:
        attn = mixture.attn[:stage] + letter + mixture.attn[stage + 1 :]
        pairs = zip(outputs(attn), target)
        errors = [relative_errors(*maps) for pair in pairs for maps in zip(*pair)]
        saved = macs['S'][stage] - macs[letter][stage]
        return Mixture(attn, torch.cat(errors).mean().item(), mixture.macs - saved)

    path = [Mixture('S' * len(macs['S']), 0.0, total)]
    target = outputs(path[0].attn)
    tried = moves = [
        (stage, letter)
        for letter in macs
        for stage, cost in enumerate(macs['S'])
        if macs[letter][stage] < cost
    ]
    price: dict[tuple[int, str], float] = {}
    while tried:
        last = path[-1]
        made = {move: replace(last, *move) for move in tried}
        price |= {m: (new.error - last.error) / (last.macs - new.macs) for m, new in made.items()}
        best = min(tried, key=price.__getitem__)
        path.append(made[best])
        moves = [move for move in moves if move[0] != best[0]]
        tried = sorted(moves, key=price.__getitem__)[:TRIED]
    return path
