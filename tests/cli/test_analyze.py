"""`mmca analyze` and `mmca kernels` from the command line to tables, JSON and images."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mmca.backbones import PVT, CADeiT, DeiT, PVTv2, Swin
from mmca.cli.main import main
from tests.helpers import SEG, write_image
from tests.tiny import DEIT
from tests.tiny import PVT as TINY_PVT
from tests.tiny import SWIN as TINY_SWIN

CONFIG = """
_base_ = {base!r}
model = dict(backbone=dict(_delete_=True, type='mmca.{type}', arch={arch!r}))
"""
# (the config's backbone, the softmax original, architecture, stages)
FAMILIES = {
    'deit': ('CADeiT', DeiT, DEIT, 4),
    'pvt': ('CAPVT', PVT, TINY_PVT, 4),
    'pvtv2': ('FLattenPVTv2', PVTv2, TINY_PVT, 4),
    'swin': ('CASwin', Swin, TINY_SWIN, 4),
}


@pytest.fixture
def job(tmp_path):
    """A family's config, softmax weights and images in a folder; returns the command line."""

    def prepare(family='deit', command='analyze'):
        kind, cls, arch, _ = FAMILIES[family]
        rng = np.random.default_rng(0)
        for i in range(4):
            write_image(tmp_path / f'images/{i}.png', rng.integers(0, 255, (70, 90, 3)))
        (tmp_path / 'tiny.py').write_text(CONFIG.format(base=SEG, type=kind, arch=arch))
        torch.manual_seed(0)
        options = dict(with_cls_token=True) if cls is DeiT else {}
        torch.save({'model': cls(arch, **options).state_dict()}, tmp_path / 'weights.pth')
        argv = [command, tmp_path / 'tiny.py', tmp_path / 'weights.pth']
        if command == 'analyze':
            argv += ['--images', tmp_path / 'images', '--number', 2, '--side', 64]
        else:
            argv += [tmp_path / 'images/0.png', '--side', 64, '--out', tmp_path / 'kernels.png']
        return [str(word) for word in argv]

    return prepare


@pytest.mark.parametrize('family', FAMILIES)
def test_the_table_and_the_files_of_every_family(family, job, tmp_path, capsys):
    out = tmp_path / 'out'
    argv = [*job(family), '--out', str(out), '--threshold', '0', '--shape', '96', '64']
    assert main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    stages = FAMILIES[family][3]
    assert lines[0].startswith('2 images of 64 x 64;')
    assert lines[0].endswith('at 96 x 64')
    assert f"recommended (explained >= 0): attn='{'C' * stages}'" in lines
    assert f'  --cfg-options model.backbone.attn={"C" * stages}' in lines
    content = json.loads((out / 'analysis.json').read_text())
    assert content['attn'] == 'C' * stages
    assert len(content['stages']) == stages
    assert [row['path'] for row in content['blocks']] == [
        line.split()[0] for line in lines[2 : 2 + len(content['blocks'])]
    ]
    assert all(0 <= row['explained'] <= 1 for row in content['blocks'])
    assert len(content['checkpoint']['sha256']) == 64
    assert content['macs'].keys() == {'shape', 'S', 'C', 'C' * stages}
    assert content['macs']['C'] == content['macs']['C' * stages] != content['macs']['S']
    assert content['files'] == [str(tmp_path / f'images/{i}.png') for i in (0, 2)]
    with Image.open(out / 'analysis.png') as plot:
        assert plot.width > 500


def test_nothing_is_recommended_where_nothing_is_circulant(job, capsys):
    assert main([*job(), '--threshold', '1']) == 0
    assert "none explains 1 or more: attn='SSSS'" in capsys.readouterr().out


@pytest.mark.parametrize('family', FAMILIES)
def test_kernels_of_softmax_weights(family, job, tmp_path):
    argv = job(family, 'kernels')
    assert main([*argv, '--blocks', '0', '3', '--heads', '0', '--at', '89', '69']) == 0
    with Image.open(tmp_path / 'kernels.png') as figure:
        assert figure.width > figure.height


def test_kernels_of_a_circulant_backbone(job, tmp_path, capsys):
    argv = job('deit', 'kernels')
    state = CADeiT(DEIT, attn='CCSS', pos_embed=True).state_dict()
    torch.save({'model': state}, tmp_path / 'circulant.pth')
    teacher = argv[2]
    argv[2] = str(tmp_path / 'circulant.pth')
    argv += ['--cfg-options', 'model.backbone.attn=CCSS']
    assert main(argv) == 0
    assert main([*argv, '--teacher', teacher, '--blocks', '1', '--channels', '0', '15']) == 0
    assert capsys.readouterr().out.count('written: ') == 2


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (['--images', 'gone'], '--images gone: no such folder'),
        (['--number', 0], '--number must be 1 or more, got 0'),
        (['--side', 16], '--side and --shape must be at least 32'),
        (['--side', 4096], 'choose a smaller --side'),
        (['--threshold', 2], '--threshold must be from 0 to 1, got 2.0'),
        (['--out', __file__], 'is a file: name a folder'),
        (['--cfg-options', 'model.backbone.arch.embed_dims=24'], 'does not fit'),
        (['--cfg-options', 'model.backbone.type=ResNet'], 'model.backbone must be one of mmca'),
        (['--cfg-options', 'model.data_preprocessor.mean=None'], 'must have mean and std'),
    ],
)
def test_bad_input_of_analyze_is_one_line(job, fail, change, message):
    assert message in fail(*job(), *change)


def test_other_weights_and_unreadable_images_are_one_line(job, fail, tmp_path):
    argv = job()
    gone = [*argv[:2], 'gone.pth', *argv[3:]]
    assert 'checkpoint not found: gone.pth' in fail(*gone)
    torch.save({'model': CADeiT(DEIT).state_dict()}, tmp_path / 'weights.pth')
    assert 'lacks blocks.0.attn.qkv.bias: it holds no softmax weights' in fail(*argv)
    torch.save({'model': PVT(TINY_PVT).state_dict()}, tmp_path / 'weights.pth')
    assert 'does not fit' in fail(*argv)
    job()
    (tmp_path / 'images/2.png').write_text('no image')
    assert 'cannot read the image' in fail(*argv)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (['--blocks', 4], '--blocks 4: the backbone has blocks 0 to 3'),
        (['--heads', 2], '--heads 2: blocks.0 has heads 0 to 1'),
        (['--at', 90, 0], '--at 90 0 is outside of'),
        (['--side', 8], '--side must be at least 32, got 8'),
        (['--out', 'kernels.jpg'], '--out kernels.jpg: must be a .png file'),
        (['--teacher', 'gone.pth'], '--teacher goes with weights of a circulant backbone'),
    ],
)
def test_bad_input_of_kernels_is_one_line(job, fail, change, message):
    assert message in fail(*job('deit', 'kernels'), *change)


def test_unreadable_images_of_kernels_are_one_line(job, fail, tmp_path):
    argv = job('deit', 'kernels')
    (tmp_path / 'images/0.png').write_text('no image')
    assert 'cannot read the image' in fail(*argv)
    write_image(tmp_path / 'images/0.png', np.zeros((10, 90, 3)))
    assert 'is 90 x 10 (W x H): crop it' in fail(*argv)
    argv[3] = 'gone.png'
    assert 'no such image: gone.png' in fail(*argv)
