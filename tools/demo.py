"""The whole job on a drawn data set: data, training, evaluation, a table and pictures.

`make demo` runs it. It does nothing that a user would not type: tools/make_mini.py, then
tools/train.py and tools/test.py for a detector and a segmentor.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ('maskrcnn_ca_pvt_mini', 'upernet_ca_swin_mini')
SHEET_PICTURES = 12
SHEET_COLUMNS = 3


def run(*command: str) -> float:
    """Run one of our tools, its output shown; stop the demo where it fails.

    Args:
        command: the tool and its arguments.

    Returns:
        Wall time in seconds.
    """
    print(f'\n$ python {" ".join(command)}', flush=True)
    start = time.monotonic()
    status = subprocess.run([sys.executable, *command], cwd=ROOT).returncode
    if status:
        sys.exit(f'error: {command[0]} ended with status {status}')
    return time.monotonic() - start


def newest(folder: Path, pattern: str) -> Path:
    """The file last written under a folder.

    Args:
        folder: where to look.
        pattern: glob pattern below it.

    Returns:
        Its path.
    """
    return max(folder.glob(pattern), key=lambda path: path.stat().st_mtime)


def contact_sheet(pictures: list[Path], out: Path) -> None:
    """Put pictures (truth on the left, prediction on the right) on one sheet.

    Args:
        pictures: files of one size.
        out: the PNG to write.
    """
    images = [cv2.imread(str(path)) for path in pictures]
    images = [cv2.copyMakeBorder(image, 4, 4, 4, 4, cv2.BORDER_CONSTANT) for image in images]
    rows = [images[i : i + SHEET_COLUMNS] for i in range(0, len(images), SHEET_COLUMNS)]
    rows = [np.hstack(row) for row in rows if len(row) == SHEET_COLUMNS]
    cv2.imwrite(str(out), np.vstack(rows))


def main() -> None:
    """Run the demo and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--work-dir', default='work_dirs/demo', help='where everything goes')
    work_dir = ROOT / parser.parse_args().work_dir

    run('tools/make_mini.py')
    lines = []
    for name in CONFIGS:
        config, folder = f'configs/mini/{name}.py', work_dir / name
        # The test that follows tells what validation at the end of training would.
        later = ('--cfg-options', 'train_cfg.val_begin=1000000')
        train = run('tools/train.py', config, '--work-dir', str(folder), *later)
        checkpoint = (folder / 'last_checkpoint').read_text().strip()
        pictures = folder / 'pictures'
        test = run(
            *('tools/test.py', config, checkpoint, '--work-dir', str(folder / 'test')),
            *('--show-dir', str(pictures)),
        )
        metrics = json.loads(newest(folder / 'test', '*/*.json').read_text())
        drawn = sorted(newest(pictures, '**/*.[jp][pn]g').parent.iterdir())[:SHEET_PICTURES]
        sheet = work_dir / f'{name}.png'
        contact_sheet(drawn, sheet)
        lines.append((name, metrics, train, test, sheet))

    print('\nOn the 48 validation pictures of data/mini (drawn, none of them in training):\n')
    print(f'{"config":<24}{"box AP":>8}{"mask AP":>9}{"mIoU":>7}{"train":>9}{"test":>8}')
    for name, metrics, train, test, _ in lines:
        box, mask = metrics.get('coco/bbox_mAP'), metrics.get('coco/segm_mAP')
        miou = metrics.get('mIoU')
        cells = [
            f'{"" if box is None else f"{box:.3f}":>8}',
            f'{"" if mask is None else f"{mask:.3f}":>9}',
            f'{"" if miou is None else f"{miou / 100:.3f}":>7}',
        ]
        print(f'{name:<24}{"".join(cells)}{train:>7.0f} s{test:>6.0f} s')
    print('\nTruth on the left, prediction on the right:')
    for *_, sheet in lines:
        print(f'  {sheet.relative_to(ROOT)}')


if __name__ == '__main__':
    main()
