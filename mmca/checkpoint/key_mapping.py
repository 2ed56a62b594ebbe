"""Key mappings: from other libraries' parameter names to the original repositories' names.

mmca's names are those of whai362/PVT, microsoft/Swin-Transformer, microsoft/CSWin-Transformer and
facebookresearch/deit. OpenMMLab, timm and transformers have other names and a few other layouts:
`models/backbones/pvt.py` and `swin.py` of mmdet 3.x, `vision_transformer.py` of mmpretrain 1.x,
`vit.py` of mmseg 1.x, `models/swin_transformer.py` of timm, and `convert_*_to_pytorch.py` in
`models/deit`, `swin`, `pvt` and `pvt_v2` of transformers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mmca.errors import InputError
from mmca.layers import registered_attentions

# Every backbone has a patch embedding, preceded by the backbone's prefix.
STEM = re.compile(
    r'((?:.+\.)?)(?:patch_embed1?\.proj(?:ection)?|layers\.0\.0\.projection|stage1_conv_embed\.0'
    r'|embeddings\.patch_embeddings\.projection|encoder\.patch_embeddings\.0\.projection'
    r'|encoder\.layers\.0\.patch_embedding\.proj)\.weight'
)
FAMILIES = (  # (name, regular expression for one of its parameters)
    ('PVTv2', r'block1\.0\.mlp\.dwconv\.dwconv\.weight'),
    ('PVT', r'patch_embed1\.proj\.weight'),
    ('CSwin', r'stage1\.0\.norm1\.weight'),
    ('Swin', r'layers\.0\.blocks\.0\.norm1\.weight'),
    ('DeiT', r'blocks\.0\.norm1\.weight'),
    ('ResNet', r'(backbone\.)?layer1\.0\.conv1\.weight'),
)


@dataclass(frozen=True)
class KeyMapping:
    """One library's names for a family.

    Attributes:
        name: used in messages.
        sign: regular expression for a name that only this library uses.
        names: (regular expression, replacement) pairs, applied in order with `re.sub`.
        tensors: (regular expression for an original name, change of layout) pairs; a change maps
            a name and its tensor to original names and tensors.
    """

    name: str
    sign: str
    names: tuple[tuple[str, str | Callable[[re.Match], str]], ...]
    tensors: tuple[tuple[str, Callable[[str, Tensor], dict[str, Tensor]]], ...] = ()

    def apply(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        """Turn one of the library's tensors into tensors under original names."""
        for pattern, replacement in self.names:
            name = re.sub(pattern, replacement, name)
        for pattern, change in self.tensors:
            if re.fullmatch(pattern, name):
                try:
                    return change(name, tensor)
                except (RuntimeError, IndexError) as error:
                    raise InputError(
                        f'{name} has shape {tuple(tensor.shape)}, which does not fit {self.name}: '
                        'the checkpoint is damaged or from another model'
                    ) from error
        return {name: tensor}


def _counted(template: str, *shifts: int) -> Callable[[re.Match], str]:
    """Fill a template with the matched numbers, each shifted: 'block{}.{}.', 1, -1."""
    return lambda found: template.format(
        *(int(number) + shift for number, shift in zip(found.groups(), shifts))
    )


def _split_in_proj(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """Split nn.MultiheadAttention's (3C, ...) into q (C, ...) and kv (2C, ...)."""
    dims = tensor.shape[0] // 3
    return {
        name.replace('.qkv.', '.q.'): tensor[:dims],
        name.replace('.qkv.', '.kv.'): tensor[dims:],
    }


def _from_unfold(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """Reorder the 4C inputs of a patch merging from nn.Unfold's order to the original one.

    Unfold orders a 2 x 2 cell by (channel, row, column), the original by (column, row, channel).
    """
    cells = tensor.unflatten(-1, (-1, 2, 2)).movedim(-3, -1).transpose(-3, -2)
    return {name: cells.flatten(-3)}


_PATCH_EMBED = (r'^(patch_embed\d?)\.projection\.', r'\1.proj.')
_FFN = ((r'\.ffn\.layers\.0\.0\.', '.mlp.fc1.'), (r'\.ffn\.layers\.1\.', '.mlp.fc2.'))
_IN_PROJ = (
    (r'\.attn\.attn\.in_proj_', '.attn.qkv.'),
    (r'\.attn\.attn\.out_proj\.', '.attn.proj.'),
)
_PVT = (
    (r'^layers\.(\d)\.0\.', _counted('patch_embed{}.', 1)),
    _PATCH_EMBED,
    (r'^layers\.(\d)\.1\.0\.pos_embed$', _counted('pos_embed{}', 1)),
    (r'^layers\.(\d)\.2\.', _counted('norm{}.', 1)),
    *_IN_PROJ,
    (r'\.ffn\.layers\.0\.', '.mlp.fc1.'),
    (r'\.ffn\.layers\.1\.', '.mlp.dwconv.dwconv.'),
    (r'\.ffn\.layers\.[34]\.', '.mlp.fc2.'),
)
_PVT_BLOCK = r'^layers\.(\d)\.1\.(\d+)\.'
_PVT_TENSORS = (
    (r'.*\.attn\.qkv\.(weight|bias)', _split_in_proj),
    # mmdet's MLPs consist of 1 x 1 convolutions.
    (r'.*\.mlp\.fc[12]\.weight', lambda name, tensor: {name: tensor.flatten(1)}),
)

_TRANSFORMERS = (
    (r'\.attention\.output\.dense\.', '.attn.proj.'),
    (r'\.attention\.(attention\.|self\.)?', '.attn.'),
    (r'\.attn\.(q)uery\.|\.attn\.(k)ey\.|\.attn\.(v)alue\.', r'.attn.\1\2\3.'),
    (r'\.attn\.(spatial|sequence)_reduction\.', '.attn.sr.'),
    (r'\.attn\.layer_norm\.', '.attn.norm.'),
    (r'\.(intermediate\.dense|mlp\.dense1)\.', '.mlp.fc1.'),
    (r'\.(output\.dense|mlp\.dense2)\.', '.mlp.fc2.'),
    (r'\.(layernorm_before|layer_norm_1)\.', '.norm1.'),
    (r'\.(layernorm_after|layer_norm_2)\.', '.norm2.'),
    (r'^embeddings\.patch_embeddings\.projection\.', 'patch_embed.proj.'),
    (r'^embeddings\.norm\.', 'patch_embed.norm.'),
    (r'^embeddings\.position_embeddings$', 'pos_embed'),
    (r'^embeddings\.distillation_token$', 'dist_token'),
    (r'^(?:embeddings|encoder\.patch_embeddings\.3)\.cls_token$', 'cls_token'),
    (r'^(encoder\.)?layer_?norm\.', 'norm.'),
)

KEY_MAPPINGS = (
    KeyMapping(
        name="mmdet's PVT",
        sign=r'layers\.0\.1\.0\.pos_embed',
        # The position embedding is the first of a stage's layers.
        names=(*_PVT, (_PVT_BLOCK, _counted('block{}.{}.', 1, -1))),
        tensors=_PVT_TENSORS,
    ),
    KeyMapping(
        name="mmdet's PVTv2",
        sign=r'layers\.0\.1\.0\.ffn\.layers\.4\.weight',
        names=(*_PVT, (_PVT_BLOCK, _counted('block{}.{}.', 1, 0))),
        tensors=_PVT_TENSORS,
    ),
    KeyMapping(
        name="OpenMMLab's Swin",
        sign=r'stages\.0\.blocks\.0\.attn\.w_msa\.qkv\.weight',
        names=(_PATCH_EMBED, (r'^stages\.', 'layers.'), (r'\.attn\.w_msa\.', '.attn.'), *_FFN),
        tensors=(
            (r'layers\.\d\.downsample\.(norm\.(weight|bias)|reduction\.weight)', _from_unfold),
        ),
    ),
    KeyMapping(
        name="OpenMMLab's ViT",
        sign=r'layers\.0\.ln1\.weight',
        names=(
            _PATCH_EMBED,
            (r'^layers\.', 'blocks.'),
            (r'^(ln1|norm1)\.', 'norm.'),
            (r'\.ln([12])\.', r'.norm\1.'),
            *_IN_PROJ,
            *_FFN,
        ),
    ),
    KeyMapping(
        name="timm's Swin",
        # The original has no downsampling in its last stage; timm's is at the head of the next.
        sign=r'layers\.3\.downsample\.reduction\.weight',
        names=((r'^layers\.(\d)\.downsample\.', _counted('layers.{}.downsample.', -1)),),
    ),
    KeyMapping(
        name="transformers' DeiT",
        sign=r'encoder\.layer\.0\.layernorm_before\.weight',
        names=(*_TRANSFORMERS, (r'^encoder\.layer\.', 'blocks.')),
    ),
    KeyMapping(
        name="transformers' Swin",
        sign=r'encoder\.layers\.0\.blocks\.0\.layernorm_before\.weight',
        names=(*_TRANSFORMERS, (r'^encoder\.layers\.', 'layers.')),
    ),
    KeyMapping(
        name="transformers' PVT",
        sign=r'encoder\.block\.0\.0\.layer_norm_1\.weight',
        names=(
            *_TRANSFORMERS,
            (r'^encoder\.block\.(\d)\.', _counted('block{}.', 1)),
            (r'^encoder\.patch_embeddings\.(\d)\.pos\w+', _counted('pos_embed{}', 1)),
            (r'^encoder\.patch_embeddings\.(\d)\.', _counted('patch_embed{}.', 1)),
            (r'^(patch_embed\d)\.layer_norm\.', r'\1.norm.'),
            _PATCH_EMBED,
        ),
    ),
    KeyMapping(
        name="transformers' PVTv2",
        sign=r'encoder\.layers\.0\.blocks\.0\.layer_norm_1\.weight',
        names=(
            *_TRANSFORMERS,
            (r'^encoder\.layers\.(\d)\.blocks\.', _counted('block{}.', 1)),
            (r'^encoder\.layers\.(\d)\.patch_embedding\.', _counted('patch_embed{}.', 1)),
            (r'^encoder\.layers\.(\d)\.layer_norm\.', _counted('norm{}.', 1)),
            (r'^(patch_embed\d)\.layer_norm\.', r'\1.norm.'),
        ),
    ),
)


def find_prefix(names: Iterable[str]) -> str:
    """Find the first backbone's prefix by its patch embedding, such as 'backbone.', or ''."""
    found = (STEM.fullmatch(name) for name in names)
    return next((match[1] for match in found if match), '')


def to_original_names(state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str | None]:
    """Convert a backbone's state dict to the original names and layouts.

    Args:
        state_dict: name -> tensor, without prefixes, see :func:`find_prefix`.

    Returns:
        The converted state dict, and the name of the key mapping; None if none applies.

    Raises:
        InputError: a tensor cannot have the library's layout.
    """
    for mapping in KEY_MAPPINGS:
        if any(re.fullmatch(mapping.sign, name) for name in state_dict):
            original: dict[str, Tensor] = {}
            for name, tensor in state_dict.items():
                original |= mapping.apply(name, tensor)
            return _join_projections(original), mapping.name
    return dict(state_dict), None


def _join_projections(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Join separate q, k and v (C, ...) to qkv, or k and v to kv in the blocks of a PVT."""
    for name in [name for name in state_dict if re.fullmatch(r'.*\.attn\.k\.(weight|bias)', name)]:
        parts = 'kv' if name.startswith('block') and not name.startswith('blocks') else 'qkv'
        names = [name.replace('.attn.k.', f'.attn.{part}.') for part in parts]
        if all(part in state_dict for part in names):
            joined = torch.cat([state_dict.pop(part) for part in names])
            state_dict[name.replace('.attn.k.', f'.attn.{parts}.')] = joined
    return state_dict


def guess_family(names: Iterable[str]) -> str | None:
    """Guess the family of a state dict, such as 'CA-PVT', from its original names."""
    names = list(names)
    for family, sign in FAMILIES:
        if any(re.fullmatch(sign, name) for name in names):
            for attention in registered_attentions().values():
                ends = f'.attn.{attention.signature}', f'.attns.0.{attention.signature}'
                if attention.signature and any(name.endswith(ends) for name in names):
                    return attention.method + family
            return family
    return None
