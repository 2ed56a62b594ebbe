"""mmca inspect: it names what is in a file, and the backbone that the file is of."""

import ast

import pytest
import torch

from mmca import backbones
from mmca.checkpoint import Report
from mmca.cli.inspect import likeness
from mmca.cli.main import main
from tests.helpers import ROOT, error_line


@pytest.fixture
def inspect(capsys):
    """Run it on some content; returns its output."""

    def run(path, content, *argv):
        torch.save(content, path)
        code = main(['inspect', str(path), *argv])
        out, err = capsys.readouterr()
        assert code == 0, err
        return out

    return run


def zeros(name, arch='tiny'):
    """The state dict of a backbone, small on disk: every tensor is one zero, repeated."""
    with torch.device('meta'):
        model = getattr(backbones, name)(arch)
    return {name: torch.zeros(1).expand(t.shape) for name, t in model.state_dict().items()}


# A part of a larger size would be filled just as well, so the sizes must be told apart.
@pytest.mark.parametrize(
    ('name', 'arch'), [('PVT', 'small'), ('CASwin', 'base'), ('CADeiT', 'tiny')]
)
def test_the_backbone_is_found(inspect, tmp_path, name, arch):
    path = tmp_path / 'weights.pth'
    state = {f'backbone.{key}': value for key, value in zeros(name, arch).items()}
    out = inspect(path, {'state_dict': state | {'head.w': torch.zeros(1)}, 'optimizer': {}})
    lines = out.splitlines()
    values = sum(value.numel() for value in state.values()) + 1
    assert lines[0] == (
        f"{path}: {len(state) + 1} tensors, {values / 1e6:.2f} M values (float32), in 'state_dict'"
    )
    assert lines[1] == 'skipped: optimizer'
    assert lines[3].split() == [name, arch, '100.0%', '100.0%']
    assert f'{name} {arch}: {len(state)} loaded, ' in out
    assert "under 'backbone.'" in out
    model = ast.parse(out.split('in a config:\n')[1].strip()).body[0]
    call = {item.arg: item.value for item in model.value.keywords[0].value.keywords}
    assert ast.literal_eval(call['type']) == f'mmca.{name}'
    assert ast.literal_eval(call['arch']) == arch
    assert str(path) in ast.unparse(call['init_cfg'])


@pytest.mark.parametrize('argv', [(), ('--config', 'camvid/fpn_ca_deit_t')])
def test_a_kept_position_embedding_is_not_called_unexpected(inspect, tmp_path, argv):
    state = zeros('CADeiT') | {'pos_embed': torch.zeros(1).expand(1, 196, 192)}
    out = inspect(tmp_path / 'deit.pth', state, *argv)
    assert f'{len(state)} loaded, ' in out
    assert ' 0 unexpected' in out


def test_against_a_config(inspect, tmp_path):
    config = 'coco/maskrcnn_ca_pvt_t'
    argv = ('--config', config)
    out = inspect(tmp_path / 'pvt.pth', zeros('CAPVT'), *argv)
    assert f'CAPVT of {config}: 100.0% filled; ' in out
    options = ('--cfg-options', 'model.backbone.arch=small')
    out = inspect(tmp_path / 'pvt.pth', zeros('CAPVT'), *argv, *options)
    assert '100.0% filled' not in out
    assert 'missing: block1.2.cpe.weight' in out


def test_nothing_of_ours(inspect, tmp_path):
    state = {'layer1.0.conv1.weight': torch.zeros(1), 'layer2.0.bn1.bias': torch.zeros(2).half()}
    out = inspect(tmp_path / 'resnet.pth', state)
    assert '2 tensors, 0.00 M values (float16, float32), a bare state dict' in out
    assert 'fits no backbone of mmca; a bare state dict; names: original; family: ResNet' in out
    assert 'in a config' not in out


def test_likeness_by_hand():
    report = Report(loaded=['a', 'b'], missing=['c'], mismatched=['d'], unexpected=['e'] * 4)
    assert likeness(report) == 0.25
    assert likeness(Report()) == 0


@pytest.mark.parametrize(
    ('argv', 'expected'),
    [
        (['absent.pth'], 'checkpoint not found: absent.pth'),
        ([str(ROOT / 'README.md')], 'README.md: it is damaged, incomplete or not a checkpoint'),
        (['{good}', '--config', 'absent.py'], 'config not found: absent.py'),
        (['{good}', '--config', '{empty}'], 'has no model.backbone'),
    ],
)
def test_bad_input_is_one_line(capsys, tmp_path, argv, expected):
    torch.save({'a': torch.zeros(1)}, tmp_path / 'good.pth')
    (tmp_path / 'empty.py').write_text("default_scope = 'mmdet'\n")
    files = {'good': tmp_path / 'good.pth', 'empty': tmp_path / 'empty.py'}
    assert main(['inspect', *(item.format(**files) for item in argv)]) == 2
    assert expected in error_line(capsys.readouterr().err)
