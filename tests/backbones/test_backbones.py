"""All backbones: maps, gradients, sizes, freezing, activation checkpointing, bad arguments."""

import re

import pytest
import torch
from torch import nn

from mmca import backbones
from mmca.errors import InputError
from mmca.layers import Attention
from mmca.registry import MODELS
from tests.tiny import HIERARCHICAL, PLAIN

ARCHS = {cls.__name__: arch for cls, arch in HIERARCHICAL + PLAIN}


def tiny(kind, *args, **options):
    return getattr(backbones, kind)(ARCHS[kind], *args, **options)


each_backbone = pytest.mark.parametrize('kind', ARCHS)


@each_backbone
@pytest.mark.parametrize('size', [(33, 33), (112, 137), (200, 328), (64, 200), (4, 61), (1, 1)])
def test_finite_maps_and_a_gradient_for_every_parameter(kind, size):
    model = tiny(kind, drop_path_rate=0.0)
    maps = model(torch.randn(2, 3, *size))
    plain = isinstance(model, backbones.DeiT)
    dims = [model.embed_dims] if plain else model.embed_dims
    assert [tuple(m.shape[:2]) for m in maps] == [(2, c) for c in dims]
    for level, out in enumerate(maps):
        stride = 16 if plain else 4 * 2**level
        high = [-(-side // stride) for side in size]
        low = high if plain else [max(side // stride, 1) for side in size]
        assert all(lo <= n <= hi for lo, n, hi in zip(low, out.shape[2:], high, strict=True))
        assert out.isfinite().all()
        assert out.is_contiguous()
    sum((out * torch.randn_like(out)).sum() for out in maps).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    if min(size) > 64:  # one token has no choice: q, k and position tables get no gradient
        still = [n for n, p in model.named_parameters() if not p.grad.any()]
        assert [n for n in still if plain or not n.startswith('pos_embed')] == []


PUBLISHED = {  # millions, as printed
    'PVT': 'tiny 13.2 small 24.5 medium 44.2 large 61.4',
    'CAPVT': 'tiny 12.2 small 22.8 medium 42.5 large 58.6',
    'CASwin': 'tiny 28 small 50 base 88',
    'CADeiT': 'tiny 6.1 small 23.8 base 93.6',
    'FLattenPVT': 'tiny 12.15',
    'PVTv2': 'b0 3.7 b1 14.0 b2 25.4 b3 45.2 b4 62.6 b5 82.0',
    'FLattenPVTv2': 'b0 3.59',
    'FLattenSwin': 'tiny 29.2',
    'CSwin': 'tiny 22.32 small 35',
    'FLattenCSwin': 'tiny 21.20 small 35.45 base 74.87',
}
CASES = [(c, *case) for c, w in PUBLISHED.items() for case in re.findall(r'(\w+) (\S+)', w)]


@pytest.mark.parametrize(('kind', 'arch', 'millions'), CASES)
def test_parameters_are_those_published(kind, arch, millions):
    """With a 1000-class head, and one norm instead of one for each stage, except in PVTv2."""
    with torch.device('meta'):
        model = getattr(backbones, kind)(arch)
    norms = [p for n, p in model.named_parameters() if re.match(r'norm\d', n)]
    count = sum(p.numel() for p in model.parameters())
    dims = model.embed_dims if isinstance(model, backbones.DeiT) else model.embed_dims[-1]
    if not isinstance(model, (backbones.DeiT, backbones.PVTv2)):
        count += 2 * dims - sum(p.numel() for p in norms)
    count += 1000 * dims + 1000
    digits = len(millions.partition('.')[2])
    if digits == 1:  # papers do not always round: 22.73 is printed as 22.8
        assert abs(count / 1e6 - float(millions)) <= 0.1
    else:
        assert round(count / 1e6, digits) == float(millions)


@pytest.mark.parametrize(
    ('kind', 'attn', 'letters'),
    [
        ('CAPVT', None, 'CCSSS'),
        ('PVT', None, 'SSSSS'),
        ('CASwin', None, 'CCCCWWWW'),
        ('Swin', ['softmax', 'circulant'] * 2, 'WWCCWWCC'),
        ('CAPVT', 'SCSC', 'SCSSC'),
        ('FLattenPVT', None, 'FFFFF'),
        ('FLattenSwin', None, 'FFFFWWWW'),
        ('CAPVT', 'CLSS', 'CFSSS'),
        ('CACSwin', None, 'CCSSS'),
        ('FLattenCSwin', None, 'FFSSS'),
        ('Swin', 'circulant', 'CCCCCCCC'),
        ('DeiT', 'CLSS', 'CFSS'),
    ],
)
def test_presets_and_attention_per_stage(kind, attn, letters):
    model = tiny(kind, attn, {'circulant': {'scale': 'paper', 'head_dim': 4}})
    attentions = [m for m in model.modules() if isinstance(m, Attention)]
    assert ''.join(type(m).__name__[0] for m in attentions) == letters
    circulant = [m for m in attentions if type(m).__name__[0] == 'C']
    assert all((m.scale, m.head_dim) == ('paper', 4) for m in circulant)


def test_positions_of_linear_stages_belong_to_the_pretraining_grid():
    model = tiny('FLattenPVT')
    sides = [p.shape[1] for n, p in model.named_parameters() if 'encoding' in n]
    assert sides == [56**2, 28**2, 14**2, 14**2, 7**2]
    model = tiny('FLattenSwin', pretrain_img_size=128)
    assert model.layers[1].blocks[1].attn.positional_encoding.shape == (1, 16**2, 16)


@pytest.mark.parametrize(('cls', 'arch'), HIERARCHICAL)
def test_only_stages_up_to_the_last_output_are_built(cls, arch):
    options = {'arch': arch, 'out_indices': (0, 2), 'drop_path_rate': 0.0}
    model = MODELS.build({'type': f'mmca.{cls.__name__}', **options})
    assert type(model) is cls
    maps = model(torch.randn(1, 3, 64, 96))
    assert [m.shape[1] for m in maps] == [model.embed_dims[0], model.embed_dims[2]]
    sum(out.sum() for out in maps).backward()
    assert all(p.grad is not None for p in model.parameters())


@each_backbone
def test_activation_checkpointing_changes_nothing(kind):
    torch.manual_seed(0)
    plain, checkpointed = (tiny(kind, drop_path_rate=0.0, with_cp=cp) for cp in (False, True))
    checkpointed.load_state_dict(plain.state_dict())
    images, calls = torch.randn(1, 3, 64, 96), []
    for model in (plain, checkpointed):
        attn = next(m for m in model.modules() if isinstance(m, Attention))
        attn.register_forward_hook(lambda *_: calls.append(1))
        sum(out.square().sum() for out in model(images)).backward()
    assert len(calls) == 3  # once plainly; forward and again in backward where checkpointed
    for a, b in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize(
    ('kind', 'embedding', 'stages'),
    [
        ('PVT', '(patch|pos)_embed1', '(patch_embed|pos_embed|block){}'),
        ('PVTv2', 'patch_embed1', '(patch_embed|block|norm){}'),
        ('CASwin', 'patch_embed', '(layers.|norm){}'),
        ('CSwin', 'stage1_conv_embed', '((stage|norm){}|merge{})'),
        ('DeiT', '(patch|pos)_embed', '(blocks.{})'),
    ],
)
@pytest.mark.parametrize('frozen_stages', [-1, 0, 1, 3, 4])
def test_frozen_stages(kind, embedding, stages, frozen_stages):
    model = tiny(kind, frozen_stages=frozen_stages, drop_rate=0.5).train()
    first = kind in ('PVT', 'PVTv2', 'CSwin')
    patterns = [embedding] if frozen_stages >= 0 else []
    patterns += [stages.format(i + first, i) for i in range(frozen_stages)]
    patterns += ['norm'] if kind == 'DeiT' and frozen_stages == 4 else []
    frozen = re.compile('|'.join(rf'({pattern})\b.*' for pattern in patterns) or '!')
    for path, parameter in model.named_parameters():
        assert parameter.requires_grad == (frozen.fullmatch(path) is None), path
    for module in model.modules():
        own = list(module.parameters())
        if isinstance(module, nn.Linear) and own:
            assert module.training == own[0].requires_grad


def test_position_embedding_of_another_grid():
    model = tiny('PVT', pretrain_img_size=64)
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
    ('kind', 'arguments', 'message'),
    [
        ('CAPVT', {'arch': 'huge'}, "unknown arch 'huge' of CAPVT; choose from tiny, small"),
        ('PVT', {'arch': {'depth': (1, 1, 1, 1)}}, r"unknown keys \['depth'\]"),
        ('CAPVT', {'attn': 'CCZS'}, r"'Z'.*choose from 'circulant' \(C\), 'linear' \(L\)"),
        ('Swin', {'attn': 'CCS'}, 'lists 3 stages'),
        ('CAPVT', {'attn_cfg': {'circulent': {}}}, "unknown attention 'circulent'; choose from"),
        ('CAPVT', {'attn_cfg': {'circulant': {'head_dims': 4}}}, "'head_dims'.*mean 'head_dim'"),
        (
            'Swin',
            {'attn_cfg': {'softmax': {'sr_ratio': 4}}},
            "'sr_ratio' of .* 'window'",
        ),
        ('PVT', {'arch': {'depths': (1, 1, 1)}}, r'depths must have 4 values.*got \(1, 1, 1\)'),
        ('PVT', {'arch': {'num_heads': 2}}, 'num_heads must have 4 values.*got 2'),
        ('Swin', {'arch': {'embed_dims': (8, 16)}}, 'embed_dims must have one number, such as 96'),
        ('Swin', {'out_indices': (4,)}, r'from 0 to 3, got \(4,\)'),
        ('DeiT', {'out_indices': (3, 11)}, r'from 11 to 11, got \(3, 11\)'),
        (
            'DeiT',
            {'with_cls_token': True, 'attn': 'C'},
            'needs a block whose attention supports it',
        ),
        ('DeiT', {'out_type': 'cls_token'}, "with a class token, got 'cls_token'"),
        ('DeiT', {'out_type': 'raw', 'with_cls_token': True}, "got 'raw'"),
        ('CAPVT', {'drop_path': 0.1}, "unexpected keyword argument 'drop_path'"),
        ('CADeiT', {'drop_path': 0.1}, "unexpected keyword argument 'drop_path'"),
    ],
)
def test_bad_arguments_are_named(kind, arguments, message):
    with pytest.raises(TypeError if 'drop_path' in arguments else InputError, match=message):
        getattr(backbones, kind)(**arguments)


def test_stages_of_cswin_have_maps_before_their_norms():
    model, seen = tiny('CSwin').eval(), []
    for i in range(4):
        last = getattr(model, f'stage{i + 1}')[-1]
        last.register_forward_hook(lambda block, args, out: seen.append((args[1], out)))
    maps = model(torch.randn(1, 3, 90, 131))
    for i, ((hw_shape, tokens), out) in enumerate(zip(seen, maps, strict=True)):
        expected = getattr(model, f'norm{i + 1}')(tokens).mT.unflatten(2, hw_shape)
        torch.testing.assert_close(out, expected)


def test_drop_path_of_cswin_depends_on_the_size():
    with torch.device('meta'):
        for arch, rate in (('tiny', 0.2), ('small', 0.4), ('base', 0.5)):
            assert backbones.FLattenCSwin(arch).drop_path_rates[-1][-1] == pytest.approx(rate)
        model = backbones.CSwin('base', drop_path_rate=0.1)
    assert model.drop_path_rates[-1][-1] == pytest.approx(0.1)
