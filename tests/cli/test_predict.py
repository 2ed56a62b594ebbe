"""mmca predict: summary, failures and exit status."""

import json
import re

from mmca.cli.main import main


def test_summary_and_failures(det, tmp_path, out, capsys):
    folder = tmp_path / 'out'
    argv = ['predict', det.config, det.checkpoint, str(det.images), '--out', str(folder)]
    argv += ['--device', 'cpu', '--score-thr', '0.1', '--batch-size', '2', '--ann', str(det.ann)]
    counts, objects, files = out(*argv).splitlines()[-3:]
    assert counts == '2 images, 2 images with ground truth'
    found = json.loads((folder / 'predictions.json').read_text())['annotations']
    number = sum(item['score'] >= 0.1 for item in found)
    assert re.match(rf'objects scoring at least 0\.1: {number} \(\w+ \d+', objects)
    assert files == f'wrote {folder}/images, {folder}/predictions.json'
    assert main([*argv[:4], 'nowhere.jpg', *argv[4:]]) == 1
    text, err = capsys.readouterr()
    assert '\n2 images' in text
    assert err.endswith('failed: nowhere.jpg: no such image or video\n')


def test_tiles(det, fail, tmp_path, out):
    argv = ['predict', det.config, det.checkpoint, det.images, '--out', tmp_path / 'out']
    argv[3] = next(det.images.iterdir())
    assert '\n1 image\n' in out(*argv, '--device', 'cpu', '--tile', '32', '--overlap', '0.5')
    assert 'a tile must have at least 32 pixels per side, got 16' in fail(*argv, '--tile', '16')
    assert 'at least 0 and below 1, got 1.0' in fail(*argv, '--tile', '32', '--overlap', '1')
