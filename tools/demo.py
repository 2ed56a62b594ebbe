"""Train and test a detector and a segmentor from scratch on the synthetic data set.

Runs tools/make_mini.py, then `mmca train` and `mmca test` with two mini configs, and prints AP,
mIoU and times. Takes 10 minutes on two CPU cores.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from mmca.cli.main import guarded
from mmca.errors import InputError

CONFIGS = ('maskrcnn_ca_pvt_mini', 'upernet_ca_swin_mini')
SHEET_IMAGES = 12
SHEET_COLUMNS = 3


def main() -> int:
    """Run the demo and print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--work-dir', default='work_dirs/demo', help='output folder')
    work_dir = Path(parser.parse_args().work_dir)
    run(str(Path(__file__).with_name('make_mini.py')))
    rows, sheets = [], []
    for name in CONFIGS:
        config, folder = f'mini/{name}', work_dir / name
        # `mmca test` follows and measures what the last validation would.
        no_validation = ('--cfg-options', 'train_cfg.val_begin=1000000')
        train = run('-m', 'mmca', 'train', config, '--work-dir', str(folder), *no_validation)
        checkpoint = (folder / 'last_checkpoint').read_text().strip()
        images = (folder / 'images').resolve()  # mmdet puts a relative one into the work dir
        output = ('--work-dir', str(folder / 'test'), '--show-dir', str(images))
        test = run('-m', 'mmca', 'test', config, checkpoint, *output)
        metrics = json.loads(newest(folder / 'test', '*/*.json').read_text())
        rows.append(table_row(name, metrics, train, test))
        drawn = sorted(newest(images, '**/*.[jp][pn]g').parent.iterdir())
        sheets.append(work_dir / f'{name}.png')
        write_sheet(drawn[:SHEET_IMAGES], sheets[-1])
    print('\nOn the 48 validation images of data/mini (synthetic, none used in training):\n')
    print(f'{"config":<24}{"box AP":>8}{"mask AP":>9}{"mIoU":>7}{"train":>9}{"test":>8}')
    print('\n'.join(rows))
    print('\nGround truth on the left, prediction on the right:')
    print('\n'.join(f'  {sheet}' for sheet in sheets))
    return 0


def run(*argv: str) -> float:
    """Run Python with these arguments and its output shown; returns the wall time in seconds."""
    print(f'\n$ python {" ".join(argv)}', flush=True)
    start = time.monotonic()
    status = subprocess.run([sys.executable, *argv]).returncode
    if status:
        raise InputError(f'python {" ".join(argv[:3])} failed with status {status}')
    return time.monotonic() - start


def newest(folder: Path, pattern: str) -> Path:
    """Find the most recently written file of a folder."""
    return max(folder.glob(pattern), key=lambda path: path.stat().st_mtime)


def table_row(name: str, metrics: dict[str, float], train: float, test: float) -> str:
    """One line of the table; train and test are times in seconds."""
    box, mask = metrics.get('coco/bbox_mAP'), metrics.get('coco/segm_mAP')
    miou = metrics['mIoU'] / 100 if 'mIoU' in metrics else None
    cells = zip((box, mask, miou), (8, 9, 7), strict=True)
    scores = ''.join(' ' * width if v is None else f'{v:>{width}.3f}' for v, width in cells)
    return f'{name:<24}{scores}{train:>7.0f} s{test:>6.0f} s'


def write_sheet(paths: list[Path], out: Path) -> None:
    """Put images of one size (ground truth beside prediction) on one sheet."""
    images = [cv2.imread(str(path)) for path in paths]
    images = [cv2.copyMakeBorder(image, 4, 4, 4, 4, cv2.BORDER_CONSTANT) for image in images]
    rows = [images[i : i + SHEET_COLUMNS] for i in range(0, len(images), SHEET_COLUMNS)]
    rows = [np.hstack(row) for row in rows if len(row) == SHEET_COLUMNS]
    cv2.imwrite(str(out), np.vstack(rows))


if __name__ == '__main__':
    sys.exit(guarded(main))
