"""mmca weights, and names and addresses on the command lines that take a file."""

import io
import json
from pathlib import Path

import pytest
import torch

from mmca.backbones import PVT
from mmca.checkpoint import KNOWN
from mmca.cli.main import main
from mmca.config.reader import load_config
from mmca.engine import Runner
from tests.cli.test_analyze import job as analyze_job
from tests.cli.test_distill import job as distill_job
from tests.config import folders
from tests.helpers import empty_weights

__all__ = ['analyze_job', 'distill_job']


def test_the_table_says_what_is_in_the_cache(cache, out):
    cache.mkdir(parents=True)
    (cache / 'pvt_small.pth').touch()
    header, *lines = out('weights').splitlines()
    rows = {line.split()[0]: line for line in lines}
    assert header.split('  ')[0] == 'name'
    assert set(rows) == set(KNOWN)
    assert rows['pvt_small'].split()[1:-1] == [
        *('ca_pvt_s,', 'pvt_s,', 'flatten_pvt_s', 'whai362/PVT', 'Apache-2.0', '93')
    ]
    assert [name for name, line in rows.items() if line.rstrip().endswith(' yes')] == ['pvt_small']
    assert ' 22  a1311bcf' in rows['deit_tiny']


def test_a_name_is_downloaded_and_its_file_printed(cache, server, monkeypatch, out):
    monkeypatch.setenv('MMCA_WEIGHTS_MIRROR', server.address('good', ''))
    paths = [cache / 'pvt_tiny.pth', cache / 'ca_deit_tiny.pth']
    assert out('weights', 'pvt_tiny', 'ca_deit_tiny').split() == list(map(str, paths))
    assert all(path.read_bytes() == server.content for path in paths)


def test_without_a_network_it_is_one_line(cache, fail, monkeypatch):
    monkeypatch.setenv('MMCA_WEIGHTS_MIRROR', 'http://127.0.0.1:9')
    said = fail('weights', 'pvt_tiny')
    assert said.startswith('error: cannot download http://127.0.0.1:9/pvt_tiny.pth: ')
    assert said.endswith(f'save it as {cache / "pvt_tiny.pth"}\n')
    assert 'closest names in `mmca weights`: pvt_tiny' in fail('weights', 'pvt_tine')


def test_inspect_takes_a_name(cache, server, monkeypatch, out):
    monkeypatch.setenv('MMCA_WEIGHTS_MIRROR', server.address('good', ''))
    server.content = empty_weights('pvt_t')
    said = out('inspect', 'pvt_tiny')
    assert said.startswith('pvt_tiny: 156 tensors, 12.71 M values')
    assert "init_cfg=dict(type='Pretrained', checkpoint='pvt_tiny')" in said


def test_analyze_and_distill_take_an_address(
    analyze_job, distill_job, cache, server, tmp_path, capsys
):
    address = server.address('good', 'teacher.pth')
    options = '--iters', 0, '--calibrate', 4, '--work-dir', tmp_path / 'work'
    for argv, name in (
        ([*analyze_job(), '--out', str(tmp_path / 'out')], 'weights.pth'),
        (distill_job('a.pth', *options), 'teacher.pth'),
    ):
        server.content = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        assert main([address if word.endswith(name) else word for word in argv]) == 0
    assert f'init_cfg.checkpoint={address}' in capsys.readouterr().out
    content = json.loads((tmp_path / 'out/analysis.json').read_text())
    assert content['checkpoint']['file'] == 'teacher.pth'
    assert torch.load(tmp_path / 'a.pth', weights_only=True)['distill']['teacher'] == 'teacher.pth'


@pytest.mark.slow
def test_from_images_alone_to_predictions(cache, server, monkeypatch, tmp_path, forget):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MMCA_WEIGHTS_MIRROR', server.address('good', ''))
    torch.save(PVT('tiny').state_dict(), file := io.BytesIO())
    server.content = file.getvalue()
    folders.as_mixed(tmp_path / 'fruits')
    options = ['--device', 'cpu', '--epochs', '1', '--size', '64', '64']
    assert main(['config', '--data', 'fruits', '--weights', 'imagenet', *options]) == 0
    cfg = load_config('fruits.py')
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    cfg.work_dir = 'work'
    forget()
    Runner.from_cfg(cfg).train()
    (trained,) = map(str, Path('work').glob('iter_*.pth'))
    forget()
    images = next((tmp_path / 'fruits').rglob('*.jpg')).parent
    assert main(['predict', 'fruits.py', trained, str(images), '--out', 'found']) == 0
    assert list(Path('found').rglob('*.png'))
    assert [path for path, _ in server.requests] == ['/good/pvt_tiny.pth']
