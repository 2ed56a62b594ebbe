"""mmca inspect: contents of a file, and its comparison with a config."""

import re

import pytest
import torch

from mmca import backbones
from tests.helpers import ROOT


def write(path, content):
    torch.save(content, path)
    return str(path)


def zeros(name, **options):
    with torch.device('meta'):
        model = getattr(backbones, name)('tiny', **options)
    return {name: torch.zeros(1).expand(t.shape) for name, t in model.state_dict().items()}


def test_contents_table_and_config(out, tmp_path):
    state = {f'backbone.{k}': v for k, v in zeros('CADeiT', pos_embed=True).items()}
    state['head.w'] = torch.zeros(1)
    path = write(tmp_path / 'weights.pth', {'state_dict': state, 'optimizer': {}})
    lines = out('inspect', path).splitlines()
    millions = sum(value.numel() for value in state.values()) / 1e6
    contents = f"{len(state)} tensors, {millions:.2f} M values (float32), in 'state_dict'"
    assert lines[:2] == [f'{path}: {contents}', 'skipped: optimizer']
    assert lines[3].split() == ['CADeiT', 'tiny', '100.0%', '100.0%']
    name, _, call = ''.join(lines[-2:]).strip().partition(' = ')
    backbone = eval(f'{call}["backbone"]', {'dict': dict})
    init_cfg = {'type': 'Pretrained', 'checkpoint': path}
    expected = {'type': 'mmca.CADeiT', 'arch': 'tiny', 'pos_embed': True, 'init_cfg': init_cfg}
    assert (name, backbone) == ('model', expected)


def test_the_circulant_backbone_is_recommended(out, tmp_path):
    said = out('inspect', write(tmp_path / 'deit.pth', zeros('DeiT')))
    assert said.splitlines()[2].split()[:2] == ['DeiT', 'tiny']
    assert re.search(r'^CADeiT tiny: \d+ loaded, \d+ converted$', said, re.MULTILINE)
    assert "dict(type='mmca.CADeiT', arch='tiny', pos_embed=True, attn_cfg={'circulant'" in said


def test_against_a_config(out, tmp_path):
    config = 'coco/maskrcnn_ca_pvt_t'
    argv = 'inspect', write(tmp_path / 'pvt.pth', zeros('CAPVT')), '--config', config
    assert f'CAPVT of {config}: 100.0% filled; ' in out(*argv)
    said = out(*argv, '--cfg-options', 'model.backbone.arch=small')
    assert 'missing: block1.2.cpe.weight' in said


@pytest.mark.parametrize(
    ('argv', 'expected'),
    [
        ([str(ROOT / 'README.md')], 'README.md: it is damaged, incomplete or not a checkpoint'),
        (['{good}', '--config', '{empty}'], 'has no model.backbone'),
        (['{deit}', '--config', 'camvid/fpn_ca_deit_t'], 'set model.backbone.pos_embed=True'),
    ],
)
def test_bad_input_is_one_line(out, fail, tmp_path, argv, expected):
    files = {'empty': tmp_path / 'empty.py'}
    files['empty'].write_text("default_scope = 'mmdet'\n")
    files['good'] = write(tmp_path / 'good.pth', {'layer1.0.conv1.weight': torch.zeros(1)})
    files['deit'] = write(tmp_path / 'deit.pth', zeros('CADeiT', pos_embed=True))
    reason = 'does not fit any backbone of mmca; a bare state dict; names: original; family: ResNet'
    assert reason in out('inspect', files['good'])
    assert expected in fail('inspect', *(item.format(**files) for item in argv))
