"""Starting the attentions of a backbone from the weights of softmax attention.

CA-PVT and CA-Swin differ from PVT and Swin in the attention of their first stages only. A block
whose attention is another than the file's takes over what its class makes of the softmax
attention's weights (`Attention.from_softmax`), and its positional convolution starts at zero, so
that it adds nothing.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmca.layers import Attention, Block, StageSpec

_PROJECTIONS = ('q', 'kv', 'qkv', 'proj')


def start_from_softmax(
    state_dict: Mapping[str, Tensor], model: nn.Module, gain: float = 1.0
) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """Turn softmax attention weights into start weights of the model's other attentions.

    Args:
        state_dict: the weights of a softmax backbone, in the family's original names.
        model: a backbone of `mmca.backbones`; it is not changed.
        gain: factor of the logits, multiplied into the weights and the bias of q.

    Returns:
        The state dict with start weights in place of softmax ones, the names of those that were
        computed, and the names of the file that these blocks do not need. Blocks whose attention
        finds all its weights in the file are passed on as they are.
    """
    state_dict, computed, unused = dict(state_dict), [], []
    for path, block in model.named_modules():
        if not isinstance(block, Block) or not isinstance(block.attn, Attention):
            continue
        prefix = f'{path}.attn.'
        old = {
            name.removeprefix(prefix): tensor
            for name, tensor in state_dict.items()
            if name.startswith(prefix)
        }
        own = block.attn.state_dict()
        softmax = _both_conventions(old, gain)
        if own.keys() <= old.keys() or softmax is None:
            continue
        spec = block.attn.spec or StageSpec(block.norm1.normalized_shape[0])
        start = {
            name: tensor
            for name, tensor in block.attn.from_softmax(softmax, spec).items()
            if name in own and own[name].shape == tensor.shape
        }
        changed = any(old.get(name) is not tensor for name, tensor in start.items())
        new = {f'attn.{name}': tensor for name, tensor in start.items()}
        if block.cpe is not None:
            reference = next(iter(old.values()))
            for name, parameter in block.cpe.named_parameters():
                new[f'cpe.{name}'] = reference.new_zeros(parameter.shape)
        for name in old:
            del state_dict[prefix + name]
        state_dict |= {f'{path}.{name}': tensor for name, tensor in new.items()}
        if changed:
            computed += [f'{path}.{name}' for name in new]
        unused += [
            prefix + name
            for name in old
            if name not in start and not (changed and name.split('.')[0] in _PROJECTIONS)
        ]
    return state_dict, computed, unused


def _both_conventions(attn: Mapping[str, Tensor], gain: float) -> dict[str, Tensor] | None:
    """The tensors with projections under `qkv` and under `q` and `kv`; None without projections."""
    both = dict(attn)
    for kind in ('weight', 'bias'):
        if f'qkv.{kind}' in attn:
            qkv = attn[f'qkv.{kind}']
        elif f'q.{kind}' in attn and f'kv.{kind}' in attn:
            qkv = torch.cat([attn[f'q.{kind}'], attn[f'kv.{kind}']])
        else:
            return None
        dims = len(qkv) // 3
        if gain != 1.0:
            qkv = torch.cat([qkv[:dims] * gain, qkv[dims:]])
        made = {f'qkv.{kind}': qkv, f'q.{kind}': qkv[:dims], f'kv.{kind}': qkv[dims:]}
        both = made | both if gain == 1.0 else both | made
    return both
