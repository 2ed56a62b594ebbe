"""Attention initialized from softmax weights: outputs, unused and untouched tensors."""

import pytest
import torch

from mmca import backbones
from mmca.checkpoint import load_pretrained, match
from mmca.checkpoint.softmax_init import start_from_softmax
from mmca.ops import naive
from tests.tiny import CSWIN, SHORT_DEIT, SHORT_SWIN
from tests.tiny import PVT as PVT_ARCH

FAMILIES = [
    (backbones.PVT, backbones.CAPVT, PVT_ARCH),
    (backbones.Swin, backbones.CASwin, SHORT_SWIN),
    (backbones.DeiT, backbones.CADeiT, SHORT_DEIT),
]
FAMILIES += [(backbones.CSwin, backbones.CACSwin, CSWIN)]


def softmax_state(cls, arch):
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(value.shape, generator=generator).double()
        for name, value in cls(arch).state_dict().items()
    }


def circulant_blocks(model):
    return {p: m for p, m in model.named_modules() if hasattr(m, 'cpe') and m.cpe is not None}


@pytest.mark.parametrize(('softmax', 'circulant', 'arch'), FAMILIES)
def test_a_block_begins_as_circulant_attention_with_the_softmax_projections(
    softmax, circulant, arch
):
    """Biases included: those of q and k change nothing, that of v goes through."""
    state = softmax_state(softmax, arch)
    model = circulant(arch).double().eval()
    new, made, unused = start_from_softmax(state, model)
    model.load_state_dict(new, strict=False)
    blocks = circulant_blocks(model)
    assert blocks
    for path, block in blocks.items():
        old = {n.removeprefix(f'{path}.').removeprefix('attn.'): v for n, v in state.items()}
        names = ['qkv'] if 'qkv.weight' in old else ['q', 'kv']
        weight = torch.cat([old[f'{name}.weight'] for name in names])
        bias = torch.cat([old[f'{name}.bias'] for name in names])
        x = torch.randn(2, 15, weight.shape[1], dtype=torch.float64)
        q, k, v = (x @ weight.T + bias).chunk(3, dim=2)
        out = naive.circulant_attention(q, k, v, (3, 5))
        expected = out @ old['proj.weight'].T + old['proj.bias']
        torch.testing.assert_close(block.attn(x, (3, 5)), expected)
        branch = x + block.drop_path(block.attn(block.norm1(x), (3, 5)))
        torch.testing.assert_close(
            block(x, (3, 5)), branch + block.mlp(block.norm2(branch), (3, 5))
        )
    assert set(made) == {
        f'{path}.{name}'
        for path, block in blocks.items()
        for name in block.state_dict()
        if name.startswith(('attn', 'cpe'))
    }
    assert set(unused) <= set(state)
    assert not set(unused) & set(new)


def test_nothing_else_changes():
    state, model = softmax_state(backbones.PVT, PVT_ARCH), backbones.CAPVT(PVT_ARCH)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    new, _, unused = start_from_softmax(state, model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    kept = [n for n in state if not n.startswith(('block1', 'block2')) or '.attn.' not in n]
    assert all(torch.equal(new[name], state[name]) for name in kept)
    assert set(new) >= set(before)
    assert {name.split('.attn.')[1].split('.')[0] for name in unused} == {'sr', 'norm'}


@pytest.mark.parametrize(
    ('cls', 'arch'),
    [(backbones.CAPVT, PVT_ARCH), (backbones.PVT, PVT_ARCH), (backbones.FLattenPVT, PVT_ARCH)]
    + [(backbones.CSwin, CSWIN), (backbones.CACSwin, CSWIN), (backbones.FLattenCSwin, CSWIN)],
)
def test_passes_on_what_fits_already(cls, arch):
    state = softmax_state(cls, arch)
    new, made, unused = start_from_softmax(state, cls(arch))
    assert (made, unused) == ([], [])
    assert new.keys() == state.keys()
    assert all(torch.equal(new[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ('source', 'arch', 'attn'),
    [(backbones.PVT, PVT_ARCH, ['global'] * 4), (backbones.DeiT, SHORT_DEIT, 'spatial_reduction')],
    ids=['q and kv to qkv', 'qkv to q and kv'],
)
def test_projections_are_there_under_both_conventions(source, arch, attn):
    state, model = softmax_state(source, arch), source(arch, attn=attn).double()
    new, _, _ = start_from_softmax(state, model)
    path = 'block4.0.attn' if source is backbones.PVT else 'blocks.1.attn'
    old, names = (('q', 'kv'), ('qkv',)) if source is backbones.PVT else (('qkv',), ('q', 'kv'))
    expected = torch.cat([state[f'{path}.{name}.weight'] for name in old])
    assert torch.equal(torch.cat([new[f'{path}.{name}.weight'] for name in names]), expected)
    assert model.state_dict().keys() >= {n for n in new if n.startswith(path)}


def test_a_start_that_is_not_the_projection_is_mentioned(tmp_path):
    torch.save(backbones.DeiT(SHORT_DEIT).state_dict(), tmp_path / 'deit.pth')
    options = {'circulant': {'head_dim': 'softmax', 'scale': 'paper'}}
    for attn_cfg, mentioned in ((None, 1), (options, 0)):
        model = backbones.CADeiT(SHORT_DEIT, pos_embed=True, attn_cfg=attn_cfg)
        message = load_pretrained(model, tmp_path / 'deit.pth')
        assert message.count("head_dim='softmax', scale='paper'") == mentioned
    state = backbones.CADeiT(SHORT_DEIT).state_dict()
    torch.save(state, tmp_path / 'ca_deit.pth')
    assert 'head_dim' not in load_pretrained(backbones.CADeiT(SHORT_DEIT), tmp_path / 'ca_deit.pth')


def test_options_of_a_file_that_are_modules_or_no_attributes(tmp_path):
    """Their tensors differ, so the comparison leaves them to the report."""
    options = {'keyed_circulant': {'gate': True, 'cpe': True}}
    model = backbones.DeiT(SHORT_DEIT, attn='K', attn_cfg=options)
    torch.save({'model': model.state_dict(), 'meta': {'attn_cfg': options}}, tmp_path / 'k.pth')
    assert 'missing' not in load_pretrained(model, tmp_path / 'k.pth')


def test_linear_attention_takes_projections_and_positions_of_stripes():
    state, model = softmax_state(backbones.CSwin, CSWIN), backbones.FLattenCSwin(CSWIN)
    new, made, unused = start_from_softmax(state, model)
    report = match(new, model)
    assert report.mismatched == report.unexpected == []
    own = ('scale', 'positional_encoding', 'dwc.weight', 'dwc.bias')
    assert report.missing == [f'stage{i}.0.attns.0.{name}' for i in (1, 2) for name in own]
    for path in ('stage1.0', 'stage2.0'):
        assert torch.equal(new[f'{path}.qkv.weight'], state[f'{path}.qkv.weight'])
        halves = [state[f'{path}.attns.{k}.get_v.weight'] for k in (0, 1)]
        assert torch.equal(new[f'{path}.attns.0.get_v.weight'], torch.cat(halves))
    assert {name.split('.attns.')[1].split('.')[0] for name in unused} == {'1'}
    assert 'stage1.0.attns.0.get_v.weight' in made


def test_windows_as_large_as_the_grid_are_softmax_attention():
    state, images = softmax_state(backbones.DeiT, SHORT_DEIT), torch.randn(1, 3, 112, 112).double()
    models = [
        backbones.DeiT(SHORT_DEIT, attn=attn, pretrain_img_size=112).double().eval()
        for attn in ('S', 'W')
    ]
    state['pos_embed'] = models[0].pos_embed.detach()
    for model in models:
        model.load_state_dict(start_from_softmax(state, model)[0])
    (expected,), (out,) = (model(images) for model in models)
    torch.testing.assert_close(out, expected)
    assert not models[1].blocks[0].attn.relative_position_bias_table.any()
