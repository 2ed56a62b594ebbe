"""Other libraries' names, by hand; test_against_mmdet.py maps the models of mmdet."""

import pytest
import torch

from mmca.checkpoint.key_mapping import find_prefix, guess_family, to_original_names
from mmca.errors import InputError

# (mapping's name, original name) of tensors whose layout is the same.
PVTV2 = [
    ('layers.0.0.projection.weight', 'patch_embed1.proj.weight'),
    ('layers.0.1.0.ffn.layers.4.weight', 'block1.0.mlp.fc2.weight'),
    ('layers.2.1.12.norm1.weight', 'block3.12.norm1.weight'),
    ('layers.1.1.2.ffn.layers.0.bias', 'block2.2.mlp.fc1.bias'),
    ('layers.1.1.2.ffn.layers.1.weight', 'block2.2.mlp.dwconv.dwconv.weight'),
    ('layers.3.2.weight', 'norm4.weight'),
]
VIT = [
    ('cls_token', 'cls_token'),
    ('pos_embed', 'pos_embed'),
    ('patch_embed.projection.bias', 'patch_embed.proj.bias'),
    ('layers.0.ln1.weight', 'blocks.0.norm1.weight'),
    ('layers.11.ln2.bias', 'blocks.11.norm2.bias'),
    ('layers.1.attn.qkv.weight', 'blocks.1.attn.qkv.weight'),
    ('layers.2.attn.attn.in_proj_weight', 'blocks.2.attn.qkv.weight'),  # mmseg's
    ('layers.2.attn.attn.out_proj.bias', 'blocks.2.attn.proj.bias'),
    ('layers.1.ffn.layers.0.0.weight', 'blocks.1.mlp.fc1.weight'),
    ('layers.1.ffn.layers.1.bias', 'blocks.1.mlp.fc2.bias'),
    ('ln1.weight', 'norm.weight'),
    ('norm1.bias', 'norm.bias'),
]
TIMM_SWIN = [
    ('layers.3.downsample.reduction.weight', 'layers.2.downsample.reduction.weight'),
    ('layers.1.downsample.norm.bias', 'layers.0.downsample.norm.bias'),
]


@pytest.mark.parametrize(
    ('mapping', 'pairs'),
    [
        ("mmdet's PVTv2", PVTV2),
        ("OpenMMLab's ViT", VIT),
        ("timm's Swin", TIMM_SWIN),
    ],
)
def test_names(mapping, pairs):
    state = {name: torch.full((4, 4), i) for i, (name, _) in enumerate(pairs)}
    renamed, found = to_original_names(state)
    assert found == mapping
    assert {name: int(tensor[0, 0]) for name, tensor in renamed.items()} == {
        original: i for i, (_, original) in enumerate(pairs)
    }


@pytest.mark.parametrize('shape', [(), (7,), (3, 6)])
def test_impossible_layouts_are_named(shape):
    state = {
        'stages.0.blocks.0.attn.w_msa.qkv.weight': torch.zeros(1),
        'stages.1.downsample.norm.weight': torch.zeros(shape),
    }
    with pytest.raises(InputError) as error:
        to_original_names(state)
    assert f'layers.1.downsample.norm.weight has the shape {shape}, impossible' in str(error.value)


@pytest.mark.parametrize(
    ('names', 'prefix'),
    [
        (['patch_embed.proj.weight', 'norm.weight'], ''),
        (['model.backbone.patch_embed1.proj.weight', 'model.neck.conv.weight'], 'model.backbone.'),
        (['rpn_head.weight', 'backbone.layers.0.0.projection.weight'], 'backbone.'),
        (['encoder.norm.weight', 'encoder.patch_embed.projection.weight'], 'encoder.'),
        (['encoder_q.0.patch_embed.proj.weight'], 'encoder_q.0.'),
        (['my_patch_embed.proj.weight', 'backbone.layer1.0.conv1.weight'], ''),
    ],
)
def test_prefix(names, prefix):
    assert find_prefix(names) == prefix


@pytest.mark.parametrize(
    ('names', 'family'),
    [
        (['patch_embed1.proj.weight', 'block1.0.attn.q.weight'], 'PVT'),
        (['patch_embed1.proj.weight', 'block1.0.attn.gate.0.weight'], 'CA-PVT'),
        (['patch_embed1.proj.weight', 'block1.0.mlp.dwconv.dwconv.weight'], 'PVTv2'),
        (['layers.0.blocks.0.norm1.weight', 'layers.0.blocks.0.attn.dwc.weight'], 'FLatten-Swin'),
        (['blocks.0.norm1.weight'], 'DeiT'),
        (['layer1.0.conv1.weight'], 'ResNet'),
        (['weight', 'x.attn.gate.0.weight'], None),
    ],
)
def test_family(names, family):
    assert guess_family(names) == family
