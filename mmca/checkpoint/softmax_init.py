"""Starting circulant blocks from the weights of softmax attention.

CA-PVT and CA-Swin differ from PVT and Swin in the attention of their first stages only. A circulant
block takes over the projections of the softmax block in its place so that it begins as the nearest
circulant thing to it:

- q, k, v: the same weights. The biases of q and k are left out without any change: they shift the
  logits of a channel by a constant, which softmax ignores. The bias of v goes through the
  attention unchanged, since its weights sum to one, and is added to the bias of `proj`.
- gate: zero weights and the bias b with SiLU(b) = 1, so that it multiplies by one.
- cpe: zero, so that it adds nothing.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmca.layers import Block, CirculantAttention

GATE_ONE = 1.2784645427610738  # SiLU(b) = 1
_TAKEN = ('q', 'kv', 'qkv', 'proj')


def circulant_from_softmax(
    state_dict: Mapping[str, Tensor], model: nn.Module, gain: float = 1.0
) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """Turn softmax attention weights into those of the model's circulant blocks.

    Args:
        state_dict: the weights of a softmax backbone, in the family's original names.
        model: a backbone of `mmca.backbones`; its weights are not touched.
        gain: factor of the logits, multiplied into the weights of q.

    Returns:
        The state dict with circulant weights in place of softmax ones, the names made so, and
        the names of the file that have no use in a circulant block. What belongs to no circulant
        block, or to one already, is passed on as it is.
    """
    state_dict, made, unused = dict(state_dict), [], []
    for path, block in model.named_modules():
        if not isinstance(block, Block) or not isinstance(block.attn, CirculantAttention):
            continue
        prefix = f'{path}.attn.'
        old = {
            name.removeprefix(prefix): tensor
            for name, tensor in state_dict.items()
            if name.startswith(prefix)
        }
        qkv = _qkv(old)
        if qkv is None:
            continue
        weight, bias = qkv
        new = {
            'attn.qkv.weight': torch.cat([weight[0] * gain, weight[1], weight[2]]),
            'attn.proj.weight': old['proj.weight'],
            'attn.proj.bias': old['proj.bias'] + old['proj.weight'] @ bias[2],
        }
        if block.attn.gate is not None:
            gate = block.attn.gate[0]
            new['attn.gate.0.weight'] = weight.new_zeros(gate.weight.shape)
            new['attn.gate.0.bias'] = weight.new_full(gate.bias.shape, GATE_ONE)
        if block.cpe is not None:
            new['cpe.weight'] = weight.new_zeros(block.cpe.weight.shape)
            new['cpe.bias'] = weight.new_zeros(block.cpe.bias.shape)
        for name in old:
            del state_dict[prefix + name]
        state_dict |= {f'{path}.{name}': tensor for name, tensor in new.items()}
        made += [f'{path}.{name}' for name in new]
        unused += [prefix + name for name in old if name.split('.')[0] not in _TAKEN]
    return state_dict, made, unused


def _qkv(attn: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    """Weights (3, C, C) and biases (3, C) of a softmax attention, None if it is none."""
    for names in (('qkv',), ('q', 'kv')):
        if all(f'{name}.{kind}' in attn for name in names for kind in ('weight', 'bias')):
            weight, bias = (
                torch.cat([attn[f'{name}.{kind}'] for name in names]) for kind in ('weight', 'bias')
            )
            return weight.unflatten(0, (3, -1)), bias.unflatten(0, (3, -1))
    return None
