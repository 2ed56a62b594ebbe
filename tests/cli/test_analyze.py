"""`mmca analyze` and `mmca visualize` from the command line to tables, JSON and images."""

import json

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from PIL import Image

from mmca.analysis import count_flops
from mmca.backbones import PVT, CADeiT, CSwin, DeiT, PVTv2, Swin
from mmca.cli.main import main
from mmca.config.reader import load_config
from tests.helpers import SEG, slow, write_image
from tests.tiny import CSWIN, DEIT
from tests.tiny import PVT as TINY_PVT
from tests.tiny import SWIN as TINY_SWIN

CONFIG = """
_base_ = {base!r}
model = dict(backbone=dict(_delete_=True, type='mmca.{type}', arch={arch!r}))
"""
# (the config's backbone, the softmax original, architecture)
FAMILIES = {
    'deit': ('CADeiT', DeiT, DEIT),
    'pvt': ('CAPVT', PVT, TINY_PVT),
    'pvtv2': ('FLattenPVTv2', PVTv2, TINY_PVT),
    'swin': ('CASwin', Swin, TINY_SWIN),
    'cswin': ('CACSwin', CSwin, CSWIN),
}


@pytest.fixture
def job(tmp_path):
    """A family's config, softmax weights and images in a folder; returns the command line."""

    def prepare(family='deit', command='analyze'):
        kind, cls, arch = FAMILIES[family]
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
            argv += [tmp_path / 'images/0.png', '--side', 64, '--out', tmp_path / 'drawn.png']
        return [str(word) for word in argv]

    return prepare


@pytest.mark.parametrize('family', ['deit', 'pvt', 'swin', *slow('pvtv2', 'cswin')])
def test_every_family_is_analyzed_and_drawn(family, job, tmp_path, capsys):
    out = tmp_path / 'out'
    argv = [*job(family), '--out', str(out), '--loss', '9', '--shape', '960', '640']
    assert main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('2 images of 64 x 64;')
    assert lines[0].endswith('at 960 x 640')
    content = json.loads((out / 'analysis.json').read_text())
    path, attn = content['path'], content['attn']
    assert (path[0]['attn'], path[0]['error']) == ('SSSS', 0)
    assert attn == path[-1]['attn'] != 'SSSS'
    rows = content['blocks']
    assert [row['path'] for row in rows] == [line.split()[0] for line in lines[2 : 2 + len(rows)]]
    assert all(0 <= row['circulant'] <= row['both'] <= 1 for row in rows)
    assert all(row['attn'] in attn and row['macs'].keys() == {'C', 'K', 'X', 'S'} for row in rows)
    assert content['shape'] == [960, 640]
    assert len(content['checkpoint']['sha256']) == 64
    # The printed command builds the mixture, which costs what the table says.
    words = lines[-2].split()
    cfg = load_config(words[2], words[4:])
    assert cfg.model.backbone.attn == attn
    assert cfg.model.backbone.init_cfg.checkpoint == str(tmp_path / 'weights.pth')
    with torch.device('meta'):
        model = MODELS.build(cfg.model.backbone)
        assert count_flops(model.eval(), torch.empty(1, 3, 960, 640)).macs == path[-1]['macs']
    assert content['files'] == [str(tmp_path / f'images/{i}.png') for i in (0, 2)]
    with Image.open(out / 'analysis.png') as plot:
        assert plot.width > 500
    options = ['--blocks', '0', '3', '--heads', '0', '--at', '89', '69']
    assert main([*job(family, 'visualize'), *options]) == 0
    with Image.open(tmp_path / 'drawn.png') as figure:
        assert figure.width > figure.height


def test_without_loss_all_stays_softmax(job, capsys):
    assert main([*job(), '--loss', '0']) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = (line for line in lines if line.endswith('recommended'))
    assert line.startswith('SSSS  0.000')
    assert 'model.backbone.attn=SSSS model.backbone.pos_embed=True' in lines[-1]


def test_a_circulant_backbone_is_drawn_beside_its_teacher(job, tmp_path, capsys):
    argv = job('deit', 'visualize')
    state = CADeiT(DEIT, attn='CCSS', pos_embed=True).state_dict()
    torch.save({'model': state}, tmp_path / 'circulant.pth')
    teacher = argv[2]
    argv[2] = str(tmp_path / 'circulant.pth')
    argv += ['--cfg-options', 'model.backbone.attn=CCSS']
    assert main(argv) == 0
    assert main([*argv, '--teacher', teacher, '--blocks', '1', '--channels', '0', '15']) == 0
    assert capsys.readouterr().out.count('wrote ') == 2


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ('--images gone', 'no such folder: gone'),
        ('--number 0', '--number 0: must be at least 1'),
        ('--loss -1', '--loss -1: must not be negative'),
        ('--out gone/out', '--out gone/out: must be in a folder that exists'),
        ('--cfg-options model.backbone.arch.embed_dims=24', 'does not fit'),
        ('--cfg-options model.backbone.type=ResNet', 'model.backbone must be a backbone of mmca'),
        ('--cfg-options model.data_preprocessor.mean=None', 'must have mean and std'),
        ('--blocks 4', '--blocks 4: the backbone has blocks 0 to 3'),
        ('--heads 2', '--heads 2: blocks.0 has heads 0 to 1'),
        ('--at 90 0', '--at 90 0 is outside '),
        ('--out drawn.jpg', '--out drawn.jpg: must be a .png file'),
        ('--teacher gone.pth', '--teacher needs circulant weights'),
    ],
)
def test_bad_options_are_one_line(job, fail, change, message):
    draws = change.split()[0] in ('--blocks', '--heads', '--at', '--teacher') or '.jpg' in change
    assert message in fail(*job('deit', 'visualize' if draws else 'analyze'), *change.split())


def test_bad_files_are_one_line(job, fail, tmp_path):
    argv = job()
    assert 'checkpoint not found: gone.pth' in fail(*argv[:2], 'gone.pth', *argv[3:])
    torch.save({'model': CADeiT(DEIT, pos_embed=True).state_dict()}, tmp_path / 'weights.pth')
    assert 'lacks blocks.0.attn.qkv.bias: it needs all softmax weights' in fail(*argv)
    torch.save({'model': PVT(TINY_PVT).state_dict()}, tmp_path / 'weights.pth')
    assert 'does not fit' in fail(*argv)
    drawing = job('deit', 'visualize')
    drawing[3] = 'gone.png'
    assert 'no such image: gone.png' in fail(*drawing)
    (tmp_path / 'images/2.png').write_text('no image')
    assert 'cannot read' in fail(*argv)
