"""Initialize attention layers from softmax attention weights.

CA-PVT and CA-Swin differ from PVT and Swin only in the attention of their first stages. Where a
block's attention differs from the checkpoint's, its class converts the softmax weights
(`Attention.from_softmax`), and the block's positional convolution starts at zero, without effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from mmca.layers import Attention, Block, StageSpec

_PROJECTIONS = ('q', 'kv', 'qkv', 'proj')


def start_from_softmax(
    state_dict: Mapping[str, Tensor], model: nn.Module
) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """Convert softmax attention weights into initial weights of the model's other attentions.

    Args:
        state_dict: weights of a softmax backbone, under the family's original names.
        model: a backbone of `mmca.backbones`; unchanged.

    Returns:
        The state dict with converted weights in place of softmax ones, the names of the converted
        tensors, and the unused names in the file.
    """
    state_dict, parameters = dict(state_dict), model.state_dict()
    converted, unused = [], []
    for path, block in model.named_modules():
        if not isinstance(block, Block) or not isinstance(block.attn, Attention):
            continue
        names, own_names = (_attention_names(state, path) for state in (state_dict, parameters))
        old = {name: state_dict[full] for name, full in names.items()}
        own = {name: parameters[full] for name, full in own_names.items()}
        softmax = _both_conventions(old)
        if own.keys() <= old.keys() or softmax is None:
            continue
        spec = block.attn.spec or StageSpec(block.norm1.normalized_shape[0])
        start = block.attn.from_softmax(softmax, spec).items()
        start = {n: t for n, t in start if n in own and own[n].shape == t.shape}
        changed = any(old.get(name) is not tensor for name, tensor in start.items())
        new = {own_names[name]: tensor for name, tensor in start.items()}
        if block.cpe is not None:
            like = next(iter(old.values()))
            for name, parameter in block.cpe.named_parameters():
                new[f'{path}.cpe.{name}'] = like.new_zeros(parameter.shape)
        for name, full in names.items():
            del state_dict[full]
            used = name in start or (changed and name.split('.')[0] in _PROJECTIONS)
            unused += [] if used else [full]
        state_dict |= new
        converted += new if changed else ()
    return state_dict, converted, unused


def _attention_names(names: Iterable[str], path: str) -> dict[str, str]:
    """A block's attention: name without the block's path and `attn` -> full name.

    In CSwin `qkv`, `attns` and `proj` are the block's own.
    """
    found = {name.removeprefix(f'{path}.'): name for name in names if name.startswith(f'{path}.')}
    starts = ('attn.', 'attns.', 'qkv.', 'proj.')
    return {n.removeprefix('attn.'): full for n, full in found.items() if n.startswith(starts)}


def _both_conventions(attn: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Add projections under `qkv` and under `q` and `kv`; None without projections."""
    both = dict(attn)
    for kind in ('weight', 'bias'):
        if f'qkv.{kind}' in attn:
            qkv = attn[f'qkv.{kind}']
        elif f'q.{kind}' in attn and f'kv.{kind}' in attn:
            qkv = torch.cat([attn[f'q.{kind}'], attn[f'kv.{kind}']])
        else:
            return None
        dims = len(qkv) // 3
        both = {f'qkv.{kind}': qkv, f'q.{kind}': qkv[:dims], f'kv.{kind}': qkv[dims:]} | both
    return both
