"""mmca predict: summary, failures and exit status."""

from mmca.cli.main import main


def test_summary_and_failures(det, tmp_path, capsys):
    out = tmp_path / 'out'
    argv = ['predict', det.config, det.checkpoint, str(det.images), '--out', str(out)]
    argv += ['--device', 'cpu', '--score-thr', '0.1', '--batch-size', '2', '--ann', str(det.ann)]
    assert main(argv) == 0
    text, err = capsys.readouterr()
    assert f'{out}: 2 images, 0 video frames, 2 images with ground truth\n' in text
    assert 'failed' not in err
    assert main([*argv[:4], 'nowhere.jpg', *argv[4:]]) == 1
    text, err = capsys.readouterr()
    assert f'{out}: 2 images' in text
    assert err.endswith('failed: nowhere.jpg: no such image or video\n')
