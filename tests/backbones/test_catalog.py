"""The backbone that a checkpoint fits, and the settings that it needs."""

import subprocess
import sys

import pytest
import torch

import mmca
from mmca import backbones
from mmca.backbones.catalog import best_fit, imagenet_weights, names_for, start_settings
from mmca.checkpoint import KNOWN, Checkpoint
from mmca.errors import InputError
from tests.helpers import empty_weights
from tests.tiny import DEIT, PVT


# A part of a larger size would be filled just as well, so sizes must be told apart.
@pytest.mark.parametrize(
    ('name', 'arch', 'options'),
    [
        ('PVT', 'small', {}),
        ('CASwin', 'base', {}),
        ('Swin', 'tiny', {}),
        ('CSwin', 'tiny', {}),
        ('CACSwin', 'small', {}),
        ('FLattenCSwin', 'base', {}),
        ('CADeiT', 'tiny', {}),
        ('CADeiT', 'small', {'pos_embed': True}),
        ('DeiT', 'base', {}),
    ],
)
def test_class_and_size_are_found(name, arch, options, tmp_path):
    with torch.device('meta'):
        state = getattr(backbones, name)(arch, **options).state_dict()
    path = tmp_path / 'weights.pth'  # small on disk: each tensor is one zero, repeated
    torch.save({f'backbone.{k}': torch.zeros(1).expand(t.shape) for k, t in state.items()}, path)
    assert best_fit(path) == (name, arch)


def test_nothing_fits(tmp_path):
    torch.save({'layer1.0.conv1.weight': torch.zeros(1)}, tmp_path / 'resnet.pth')
    with pytest.raises(InputError, match=r'resnet\.pth does not fit any backbone of mmca'):
        best_fit(tmp_path / 'resnet.pth')


PROJECTION = {'head_dim': 'softmax', 'scale': 'paper'}


@pytest.mark.parametrize(
    ('weights', 'settings', 'attn_cfg'),
    [
        (backbones.DeiT(DEIT), dict(type='mmca.CADeiT'), {'circulant': PROJECTION}),
        (backbones.PVT(PVT), dict(type='mmca.CAPVT'), {'circulant': PROJECTION}),
        (backbones.CADeiT(DEIT), dict(type='mmca.CADeiT'), None),
        (backbones.DeiT(DEIT), dict(type='mmca.DeiT'), None),
        (backbones.DeiT(DEIT), dict(type='mmca.DeiT', attn='KKSL'), None),
        (
            backbones.DeiT(DEIT),
            dict(type='mmca.CADeiT', attn_cfg=dict(circulant=dict(head_dim=1))),
            {'circulant': {'head_dim': 1, 'scale': 'paper'}},
        ),
    ],
)
def test_circulant_attention_starts_as_the_projection(weights, settings, attn_cfg):
    arch = PVT if isinstance(weights, backbones.PVT) else DEIT
    found = start_settings({**settings, 'arch': arch}, Checkpoint(weights.state_dict()))
    assert found.get('attn_cfg') == attn_cfg


def test_a_file_names_its_options():
    state = backbones.CADeiT(DEIT).state_dict()
    checkpoint = Checkpoint(state, meta={'attn_cfg': {'circulant': PROJECTION}})
    found = start_settings(dict(type='mmca.CADeiT', arch=DEIT), checkpoint)
    assert found['attn_cfg'] == {'circulant': PROJECTION}


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('ca_pvt_s', 'pvt_small'),
        ('pvt_l', 'pvt_large'),
        ('ca_swin_b', 'swin_base'),
        ('flatten_swin_t', 'flatten_swin_tiny'),
        ('flatten_pvt_s', 'pvt_small'),  # none of its own are published
        ('flatten_pvtv2_b2', 'pvtv2_b2'),
        ('ca_deit_t', 'ca_deit_tiny'),
        ('deit_t', 'deit_tiny'),
    ],
)
def test_imagenet_weights_are_its_own_or_those_of_its_original(name, expected):
    assert imagenet_weights(name) == expected


def test_known_weights_fit_the_backbones_that_exist():
    for known in KNOWN.values():
        names, cls = names_for(known), getattr(backbones, known.backbone, None)
        assert (known.arch in cls.arch_zoo and names) if cls else not names, known.name
    assert names_for(KNOWN['swin_small']) == ['ca_swin_s', 'flatten_swin_s', 'swin_s']
    assert names_for(KNOWN['ca_deit_base']) == ['ca_deit_b']


@pytest.mark.parametrize('name', ['pvt_t', 'ca_swin_t', 'flatten_pvtv2_b0', 'ca_deit_t'])
def test_channels_and_strides_are_those_of_the_maps(name):
    model = mmca.create_backbone(name).eval()
    with torch.no_grad():
        maps = model(torch.zeros(1, 3, 64, 96))
    assert model.channels == tuple(m.shape[1] for m in maps)
    assert model.strides == tuple(64 // m.shape[2] for m in maps)


def test_create_backbone_passes_options_on():
    model = mmca.create_backbone('ca_pvt_t', out_indices=(0, 2), attn='S', with_cp=True)
    assert (model.channels, model.strides, model.with_cp) == ((64, 320), (4, 16), True)
    assert set(model.attn) == {'softmax'}


@pytest.mark.parametrize('weights', ['pvt_tiny', 'imagenet', 'file'])
def test_create_backbone_starts_from_weights(weights, cache):
    cache.mkdir(parents=True)
    (cache / 'pvt_tiny.pth').write_bytes(empty_weights('pvt_t'))
    weights = cache / 'pvt_tiny.pth' if weights == 'file' else weights
    model = mmca.create_backbone('ca_pvt_t', weights)
    assert not model.patch_embed1.proj.weight.any()
    assert model.block1[0].attn.spec.num_heads == 1
    assert model.attn_cfg == {'circulant': PROJECTION}  # as softmax weights need it


@pytest.mark.parametrize(
    ('argv', 'expected'),
    [
        (('ca_pvt_x',), "unknown backbone 'ca_pvt_x': choose from ca_pvt_"),
        (('ca_pvt_t', 'pvt_tyni'), 'closest names in `mmca weights`: pvt_tiny'),
        (('ca_pvt_t', 'swin_tiny'), 'does not fit CAPVT'),
    ],
)
def test_create_backbone_refuses_in_one_line(argv, expected, cache):
    cache.mkdir(parents=True)
    path = cache / KNOWN['swin_tiny'].path.name
    path.write_bytes(empty_weights('swin_t'))
    with pytest.raises(InputError, match=expected):
        mmca.create_backbone(*argv)


def test_create_backbone_needs_neither_mmcv_nor_the_libraries(tmp_path):
    code = """
import sys
sys.modules.update(dict.fromkeys(('mmcv', 'mmdet', 'mmseg', 'mmpretrain')))
import mmca
print(mmca.create_backbone('ca_swin_t', sys.argv[1]).channels)
"""
    path = tmp_path / 'swin.pth'
    path.write_bytes(empty_weights('swin_t'))
    done = subprocess.run([sys.executable, '-c', code, path], capture_output=True, text=True)
    assert done.stdout.endswith('\n(96, 192, 384, 768)\n'), done.stderr
