"""Train and test a detector and a segmentor on the synthetic data set, from nothing.

Runs `mmca make-mini`, then `mmca train` and `mmca test` with the mini configs, and prints a table
of AP, mIoU and times; 10 minutes on two CPU cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from mmca.config.packages import FULL_STACK
from mmca.errors import InputError

REQUIRES = (*FULL_STACK, 'mmdet', 'mmseg', 'pycocotools', 'cv2')
CONFIGS = ('maskrcnn_ca_pvt_mini', 'upernet_ca_swin_mini')
SHEET_IMAGES = 12
SHEET_COLUMNS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument('--work-dir', default='work_dirs/demo', help='where everything goes')


def run(args: argparse.Namespace) -> int:
    """Run the demo and print the table; returns the exit code."""
    work_dir = Path(args.work_dir)
    _mmca('make-mini')
    results = []
    for name in CONFIGS:
        config, folder = f'mini/{name}', work_dir / name
        # The test that follows tells what validation at the end of training would.
        later = ('--cfg-options', 'train_cfg.val_begin=1000000')
        train = _mmca('train', config, '--work-dir', str(folder), *later)
        checkpoint = (folder / 'last_checkpoint').read_text().strip()
        images = (folder / 'images').resolve()  # mmdet puts a relative one into the work dir
        test = _mmca(
            *('test', config, checkpoint, '--work-dir', str(folder / 'test')),
            *('--show-dir', str(images)),
        )
        metrics = json.loads(_newest(folder / 'test', '*/*.json').read_text())
        shown = sorted(_newest(images, '**/*.[jp][pn]g').parent.iterdir())[:SHEET_IMAGES]
        sheet = work_dir / f'{name}.png'
        _write_sheet(shown, sheet)
        results.append((name, metrics, train, test, sheet))
    print('\nOn the 48 validation images of data/mini (synthetic, none of them in training):\n')
    print(f'{"config":<24}{"box AP":>8}{"mask AP":>9}{"mIoU":>7}{"train":>9}{"test":>8}')
    for name, metrics, train, test, _ in results:
        box, mask = metrics.get('coco/bbox_mAP'), metrics.get('coco/segm_mAP')
        miou = metrics.get('mIoU')
        cells = [
            f'{"" if box is None else f"{box:.3f}":>8}',
            f'{"" if mask is None else f"{mask:.3f}":>9}',
            f'{"" if miou is None else f"{miou / 100:.3f}":>7}',
        ]
        print(f'{name:<24}{"".join(cells)}{train:>7.0f} s{test:>6.0f} s')
    print('\nGround truth on the left, prediction on the right:')
    for *_, sheet in results:
        print(f'  {sheet}')
    return 0


def _mmca(*command: str) -> float:
    """Run a command of mmca, its output shown; returns the wall time in seconds."""
    print(f'\n$ mmca {" ".join(command)}', flush=True)
    start = time.monotonic()
    status = subprocess.run([sys.executable, '-m', 'mmca', *command]).returncode
    if status:
        raise InputError(f'mmca {command[0]} ended with status {status}')
    return time.monotonic() - start


def _newest(folder: Path, pattern: str) -> Path:
    """The file last written under a folder."""
    return max(folder.glob(pattern), key=lambda path: path.stat().st_mtime)


def _write_sheet(paths: list[Path], out: Path) -> None:
    """Put images of one size (ground truth beside prediction) on one sheet."""
    import cv2
    import numpy as np

    images = [cv2.imread(str(path)) for path in paths]
    images = [cv2.copyMakeBorder(image, 4, 4, 4, 4, cv2.BORDER_CONSTANT) for image in images]
    rows = [images[i : i + SHEET_COLUMNS] for i in range(0, len(images), SHEET_COLUMNS)]
    rows = [np.hstack(row) for row in rows if len(row) == SHEET_COLUMNS]
    cv2.imwrite(str(out), np.vstack(rows))
