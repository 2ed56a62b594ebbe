"""All backbones: maps, gradients, sizes, freezing, checkpointing, refusals."""

import pytest
import torch
from torch import nn

from mmca.backbones import (
    CAPVT,
    PVT,
    CADeiT,
    CASwin,
    DeiT,
    FLattenPVT,
    FLattenPVTv2,
    FLattenSwin,
    PVTv2,
    Swin,
)
from mmca.errors import InputError
from mmca.layers import Attention, CirculantAttention, FocusedLinearAttention, SelfAttention
from mmca.necks import SimpleFeaturePyramid
from mmca.registry import MODELS
from tests.tiny import DEIT as DEIT_TINY
from tests.tiny import HIERARCHICAL, PLAIN
from tests.tiny import PVT as PVT_TINY
from tests.tiny import SWIN as SWIN_TINY

CLASSIFIER_LACKS = ('norm0', 'norm1', 'norm2')


def name(value):
    return value.__name__ if isinstance(value, type) else ''


each_backbone = pytest.mark.parametrize(('cls', 'arch'), HIERARCHICAL + PLAIN, ids=name)
each_hierarchical = pytest.mark.parametrize(('cls', 'arch'), HIERARCHICAL, ids=name)
each_plain = pytest.mark.parametrize(('cls', 'arch'), PLAIN, ids=name)


@each_hierarchical
@pytest.mark.parametrize('size', [(33, 33), (112, 137), (200, 328), (64, 200), (4, 61), (1, 1)])
def test_four_finite_maps_and_a_gradient_for_every_parameter(cls, arch, size):
    model = cls(arch, drop_path_rate=0.0)
    maps = model(torch.randn(2, 3, *size))
    dims = model.embed_dims
    assert [tuple(m.shape[:2]) for m in maps] == [(2, c) for c in dims]
    for level, out in enumerate(maps):
        stride = 4 * 2**level
        low = [max(side // stride, 1) for side in size]
        high = [-(-side // stride) for side in size]
        assert all(lo <= n <= hi for lo, n, hi in zip(low, out.shape[2:], high, strict=True))
        assert out.isfinite().all()
        assert out.is_contiguous()
    sum((out * torch.randn_like(out)).sum() for out in maps).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    if min(size) > 64:  # one token has nothing to choose from: its q, k, position tables rest
        still = [n for n, p in model.named_parameters() if not p.grad.any()]
        assert [n for n in still if not n.startswith('pos_embed')] == []


@each_plain
@pytest.mark.parametrize('size', [(33, 33), (112, 137), (200, 328), (64, 200), (4, 61), (1, 1)])
def test_one_map_becomes_four(cls, arch, size):
    model, neck = cls(arch, drop_path_rate=0.0), SimpleFeaturePyramid(16, 8, num_outs=4)
    maps = model(torch.randn(2, 3, *size))
    assert [tuple(m.shape) for m in maps] == [(2, 16, *(-(-side // 16) for side in size))]
    assert maps[0].isfinite().all()
    assert maps[0].is_contiguous()
    maps = neck(maps)
    padded = [-(-side // 16) * 16 for side in size]
    for level, out in enumerate(maps):
        stride = 4 * 2**level
        assert tuple(out.shape) == (2, 8, *(-(-side // stride) for side in padded))
        assert out.isfinite().all()
    sum((out * torch.randn_like(out)).sum() for out in maps).backward()
    for module in (model, neck):
        assert [n for n, p in module.named_parameters() if p.grad is None] == []
    if min(size) > 64:
        assert [n for n, p in model.named_parameters() if not p.grad.any()] == []


@pytest.mark.parametrize(
    ('cls', 'arch', 'millions', 'digits'),
    [
        (PVT, 'tiny', 13.2, 1),
        (PVT, 's', 24.5, 1),
        (PVT, 'm', 44.2, 1),
        (PVT, 'large', 61.4, 1),
        (CAPVT, 't', 12.2, 1),
        (CAPVT, 'small', 22.8, 1),
        (CAPVT, 'medium', 42.5, 1),
        (CAPVT, 'l', 58.6, 1),
        (CASwin, 't', 28, 0),
        (CASwin, 'small', 50, 0),
        (CASwin, 'b', 88, 0),
        (CADeiT, 't', 6.1, 1),
        (CADeiT, 'small', 23.8, 1),
        (CADeiT, 'b', 93.6, 1),
        (FLattenPVT, 't', 12.15, 2),
        (PVTv2, 'b0', 3.7, 1),
        (PVTv2, 'b1', 14.0, 1),
        (PVTv2, 'b2', 25.4, 1),
        (PVTv2, 'b3', 45.2, 1),
        (PVTv2, 'b4', 62.6, 1),
        (PVTv2, 'b5', 82.0, 1),
        (FLattenPVTv2, 'b0', 3.59, 2),
        (FLattenSwin, 't', 29.2, 1),
    ],
)
def test_parameters_are_those_published(cls, arch, millions, digits):
    """With a final norm where the backbone has none (PVT) and a 1000-class head."""
    with torch.device('meta'):
        model = cls(arch)
    lacks = () if isinstance(model, PVTv2) else CLASSIFIER_LACKS
    count = sum(p.numel() for n, p in model.named_parameters() if n[:5] not in lacks)
    dims = model.embed_dims if isinstance(model, DeiT) else model.embed_dims[-1]
    count += 1000 * dims + 1000 + (2 * dims if isinstance(model, PVT) and not model.v2 else 0)
    if digits == 1:
        assert abs(count / 1e6 - millions) <= 0.1
    else:
        assert round(count / 1e6, digits) == millions


def test_presets_and_attention_per_stage():
    def kinds(model):
        attns = [m for m in model.modules() if isinstance(m, Attention)]
        return [type(m).__name__[:1] for m in attns]

    assert kinds(CAPVT(PVT_TINY)) == list('CCSSS')
    assert kinds(PVT(PVT_TINY)) == list('SSSSS')
    assert kinds(CASwin(SWIN_TINY)) == list('CCCCWWWW')
    assert kinds(Swin(SWIN_TINY, attn=['softmax', 'circulant'] * 2)) == list('WWCCWWCC')
    assert kinds(CAPVT(PVT_TINY, attn='SCSC')) == list('SCSSC')
    assert kinds(FLattenPVT(PVT_TINY)) == list('FFFFF')
    assert kinds(FLattenSwin(SWIN_TINY)) == list('FFFFWWWW')
    assert kinds(CAPVT(PVT_TINY, attn='CLSS')) == list('CFSSS')
    assert kinds(Swin(SWIN_TINY, attn='circulant')) == list('CCCCCCCC')
    assert [type(b.attn) for b in DeiT(DEIT_TINY, attn='CLSS').blocks] == [
        CirculantAttention,
        FocusedLinearAttention,
        SelfAttention,
        SelfAttention,
    ]
    layer = FLattenPVT(PVT_TINY, attn_cfg={'linear': {'focusing_factor': 2.0}}).block1[0].attn
    assert layer.focusing_factor == 2.0
    layer = (
        CAPVT(PVT_TINY, attn_cfg={'circulant': {'scale': 'paper', 'head_dim': 4}}).block1[0].attn
    )
    assert (layer.scale, layer.head_dim) == ('paper', 4)


@each_plain
def test_plain_backbones_are_registered(cls, arch):
    model = MODELS.build({'type': f'mmca.{cls.__name__}', 'arch': arch})
    assert type(model) is cls


def test_positions_of_deit():
    """CA-DeiT has no position embedding; the softmax original has, without its class token."""
    assert CADeiT(DEIT_TINY).pos_embed is None
    assert DeiT(DEIT_TINY).pos_embed.shape == (1, 196, 16)
    assert DeiT(DEIT_TINY, pretrain_img_size=384).pos_embed.shape == (1, 576, 16)


def test_positions_of_linear_stages_belong_to_the_pretraining_grid():
    sides = [p.shape[1] for n, p in FLattenPVT(PVT_TINY).named_parameters() if 'encoding' in n]
    assert sides == [56**2, 28**2, 14**2, 14**2, 7**2]
    model = FLattenSwin(SWIN_TINY, pretrain_img_size=128)
    assert model.layers[0].blocks[0].attn.positional_encoding.shape == (1, 32**2, 8)
    assert model.layers[1].blocks[1].attn.positional_encoding.shape == (1, 16**2, 16)


@each_hierarchical
def test_registered(cls, arch):
    model = MODELS.build({'type': f'mmca.{cls.__name__}', 'arch': arch, 'out_indices': (1, 3)})
    assert type(model) is cls
    assert [m.shape[1] for m in model(torch.zeros(1, 3, 64, 64))] == [
        model.embed_dims[1],
        model.embed_dims[3],
    ]


@each_hierarchical
def test_stages_nobody_asked_for_are_not_built(cls, arch):
    model = cls(arch, out_indices=(0, 2), drop_path_rate=0.0)
    sum(out.sum() for out in model(torch.randn(1, 3, 64, 96))).backward()
    assert all(p.grad is not None for p in model.parameters())


@each_backbone
def test_activation_checkpointing_changes_nothing(cls, arch):
    torch.manual_seed(0)
    plain, checkpointed = cls(arch, drop_path_rate=0.0), cls(arch, drop_path_rate=0.0, with_cp=True)
    checkpointed.load_state_dict(plain.state_dict())
    images, calls = torch.randn(1, 3, 64, 96), []
    for model in (plain, checkpointed):
        attn = next(m for m in model.modules() if isinstance(m, Attention))
        attn.register_forward_hook(lambda *_: calls.append(1))
        sum(out.square().sum() for out in model(images)).backward()
    assert len(calls) == 3  # once plainly; forward and again in backward where checkpointed
    for a, b in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@each_plain
@pytest.mark.parametrize('frozen_stages', [-1, 0, 1, 3, 4])
def test_frozen_blocks(cls, arch, frozen_stages):
    model = cls(arch, frozen_stages=frozen_stages).train()
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    expected = {
        n
        for n, _ in model.named_parameters()
        if frozen_stages >= 0 and n.startswith(('patch_embed', 'pos_embed'))
    }
    for block in range(frozen_stages):
        expected |= {n for n, _ in model.named_parameters() if n.startswith(f'blocks.{block}.')}
    if frozen_stages == 4:
        expected |= {'norm.weight', 'norm.bias'}
    assert frozen == expected


@each_hierarchical
@pytest.mark.parametrize('frozen_stages', [-1, 0, 1, 3, 4])
def test_frozen_stages(cls, arch, frozen_stages):
    model = cls(arch, frozen_stages=frozen_stages, drop_rate=0.5).train()
    pvt = issubclass(cls, PVT)
    frozen = {n.split('.')[0] for n, p in model.named_parameters() if not p.requires_grad}
    if pvt:
        stages = max(frozen_stages, min(frozen_stages + 1, 1))
        expected = {f'{n}{i + 1}' for i in range(stages) for n in ('patch_embed', 'pos_embed')}
        expected |= {f'block{i + 1}' for i in range(frozen_stages)}
        if issubclass(cls, PVTv2):
            expected = {n for n in expected if not n.startswith('pos_embed')}
            expected |= {f'norm{i + 1}' for i in range(frozen_stages)}
    else:
        expected = {'patch_embed'} if frozen_stages >= 0 else set()
        expected |= {name for i in range(frozen_stages) for name in ('layers', f'norm{i}')}
        stages = {n.split('.')[1] for n, p in model.layers.named_parameters() if p.requires_grad}
        layers = [all(p.requires_grad for p in s.parameters()) for s in model.layers]
        assert layers == [i >= frozen_stages for i in range(4)]
    assert frozen == expected
    for module in model.modules():
        own = list(module.parameters())
        if isinstance(module, nn.Linear) and own:
            assert module.training == own[0].requires_grad


def test_position_embedding_of_another_grid():
    model = PVT(PVT_TINY, pretrain_img_size=64)
    assert [getattr(model, f'pos_embed{i}').shape[1] for i in (1, 2, 3, 4)] == [256, 64, 16, 4]
    model.eval()
    with torch.no_grad():
        model.pos_embed1.fill_(2.0)
        model.patch_embed1.norm.weight.zero_()
    seen = []
    model.block1[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model(torch.zeros(1, 3, 40, 72))
    torch.testing.assert_close(seen[0], torch.full((1, 180, 8), 2.0))


@pytest.mark.parametrize(
    ('cls', 'arguments', 'message'),
    [
        (CAPVT, {'arch': 'huge'}, "unknown arch 'huge' of CAPVT; known are tiny, small, medium"),
        (CASwin, {'arch': 'm'}, "unknown arch 'm' of CASwin; known are tiny, small, base"),
        (PVT, {'arch': {'depth': (1, 1, 1, 1)}}, r"unknown keys \['depth'\]"),
        (CAPVT, {'attn': 'CCXS'}, r"'X'.*known are 'circulant' \(C\), 'linear' \(L\), 'softmax'"),
        (CAPVT, {'attn': ['fourier'] * 4}, "'fourier'.*known are"),
        (Swin, {'attn': 'CCS'}, 'names 3 stages'),
        (DeiT, {'attn': 'CS'}, 'names 2 stages, the backbone has 12'),
        (CADeiT, {'arch': 'large'}, 'known are tiny, small, base'),
        (PVTv2, {'arch': 'b6'}, "unknown arch 'b6' of PVTv2; known are b0, b1, b2, b3, b4, b5$"),
        (CAPVT, {'attn_cfg': {'circulent': {}}}, "unknown attention 'circulent'; known are"),
        (
            CAPVT,
            {'attn_cfg': {'circulant': {'head_dims': 4}}},
            "unknown option 'head_dims' of the attention 'circulant', did you mean 'head_dim'",
        ),
        (Swin, {'attn_cfg': {'softmax': {'sr_ratio': 4}}}, "'sr_ratio' of the attention 'window'"),
        (CAPVT, {'attn_cfg': {'circulant': 'paper'}}, r"must be a dict of options, got 'paper'"),
        (PVT, {'arch': {'depths': (1, 1, 1)}}, r'PVT: depths must have 4 values.*3 values: \(1'),
        (PVT, {'arch': {'num_heads': 2}}, 'num_heads must have 4 values, one a stage, got 2'),
        (Swin, {'arch': {'embed_dims': (8, 16)}}, 'embed_dims must be one number such as 96'),
        (Swin, {'arch': {'depths': (2,) * 5}}, 'depths must have 4 values.*got 5 values'),
        (Swin, {'out_indices': (4,)}, r'from 0 to 3, got \(4,\)'),
        (PVT, {'frozen_stages': 5}, 'got 5'),
    ],
)
def test_bad_arguments_are_named(cls, arguments, message):
    with pytest.raises(InputError, match=message):
        cls(**arguments)


def test_misspelt_options_are_refused():
    with pytest.raises(TypeError, match='drop_path'):
        CAPVT('tiny', drop_path=0.1)
