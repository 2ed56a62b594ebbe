"""Other libraries' names, by hand; test_against_mmdet.py maps the models of mmdet."""

import re

import pytest
import torch

from mmca import backbones
from mmca.checkpoint import Checkpoint, fit
from mmca.checkpoint.key_mapping import guess_family, to_original_names
from mmca.errors import InputError
from tests import tiny

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
    assert f'layers.1.downsample.norm.weight has shape {shape}, which' in str(error.value)


@pytest.mark.parametrize(
    ('names', 'family'),
    [
        (['patch_embed1.proj.weight', 'block1.0.attn.q.weight'], 'PVT'),
        (['patch_embed1.proj.weight', 'block1.0.attn.gate.0.weight'], 'CA-PVT'),
        (['patch_embed1.proj.weight', 'block1.0.mlp.dwconv.dwconv.weight'], 'PVTv2'),
        (['layers.0.blocks.0.norm1.weight', 'layers.0.blocks.0.attn.dwc.weight'], 'FLatten-Swin'),
        (['stage1.0.norm1.weight', 'stage1.0.qkv.weight'], 'CSwin'),
        (['stage1.0.norm1.weight', 'stage1.0.attn.gate.0.weight'], 'CA-CSwin'),
        (['stage1.0.norm1.weight', 'stage1.0.attns.0.dwc.weight'], 'FLatten-CSwin'),
        (['blocks.0.norm1.weight'], 'DeiT'),
        (['layer1.0.conv1.weight'], 'ResNet'),
        (['weight', 'x.attn.gate.0.weight'], None),
    ],
)
def test_family(names, family):
    assert guess_family(names) == family


def by_stage(pairs):
    """Pairs for each stage: i from 0, n from 1."""
    return ''.join(pairs.format(i=i, n=i + 1) for i in range(4))


# Pairs of an original part of a name and transformers' part, applied in order.
VIT_PARTS = """
    .norm1. .layernorm_before.  .norm2. .layernorm_after.
    .mlp.fc1. .intermediate.dense.  .mlp.fc2. .output.dense.
    patch_embed.proj. embeddings.patch_embeddings.projection.  patch_embed.norm. embeddings.norm.
    pos_embed embeddings.position_embeddings  .attn.proj. .attention.output.dense.
"""
PVT_PARTS = """
    .norm1. .layer_norm_1.  .norm2. .layer_norm_2.  .attn.kv. .attn.qkv.
    .mlp.fc .mlp.dense  .attn.norm. .attn.layer_norm.
"""
TRANSFORMERS = {
    'deit.': VIT_PARTS + '.attn. .attention.attention.  blocks. encoder.layer.',
    'swin.': VIT_PARTS + '.attn. .attention.self.  layers. encoder.layers.',
    'pvt.': PVT_PARTS
    + by_stage('block{n}. encoder.block.{i}. ')
    + by_stage('pos_embed{n} encoder.patch_embeddings.{i}.position_embeddings ')
    + by_stage('patch_embed{n}. encoder.patch_embeddings.{i}. ')
    + '.attn.proj. .attention.output.dense.  .proj. .projection. '
    + '.attn.sr. .attn.sequence_reduction.  .attn. .attention.self.',
    'pvt_v2.': PVT_PARTS
    + by_stage('block{n}. encoder.layers.{i}.blocks. ')
    + by_stage('patch_embed{n}. encoder.layers.{i}.patch_embedding. ')
    + '.attn.sr. .attn.spatial_reduction.  .attn. .attention.',
}


@pytest.mark.parametrize(
    ('prefix', 'cls', 'arch'),
    [
        ('deit.', backbones.DeiT, tiny.DEIT),
        ('swin.', backbones.Swin, tiny.SWIN),
        ('pvt.', backbones.PVT, tiny.PVT),
        ('pvt_v2.', backbones.PVTv2, tiny.PVT),
    ],
)
def test_transformers_names(prefix, cls, arch):
    """Renamed as transformers' conversion scripts do, with q, k and v apart."""
    model = cls(arch)
    state = {n: torch.randn(t.shape) for n, t in model.named_parameters()}
    if cls is backbones.Swin:  # a classifier has no norms of single stages
        state = {n: t for n, t in state.items() if not n.startswith('norm')}
    theirs = {'classifier.weight': torch.zeros(3, 4)}
    for original, tensor in state.items():
        name = re.sub(
            r'^norm(\d)\.', lambda found: f'encoder.layers.{int(found[1]) - 1}.norm.', original
        )
        name = name.replace('.norm.', '.layer_norm.') if 'pvt' in prefix else name
        name = re.sub(r'^norm\.', 'layernorm.', name)
        parts = TRANSFORMERS[prefix].split()
        for own, other in zip(parts[::2], parts[1::2], strict=True):
            name = name.replace(own, other)
        name = name.replace('.q.', '.query.')
        if '.qkv.' in name:
            kinds = ('key', 'value') if 'pvt' in prefix else ('query', 'key', 'value')
            for kind, part in zip(kinds, tensor.chunk(len(kinds)), strict=True):
                theirs[prefix + name.replace('.qkv.', f'.{kind}.')] = part
        else:
            theirs[prefix + name] = tensor
    found, report = fit(Checkpoint(theirs), model)
    assert set(report.loaded) >= set(state), report
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
