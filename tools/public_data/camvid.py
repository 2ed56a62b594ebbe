"""CamVid with the 11 classes and the split of the SegNet tutorial.

Brostow, Fauqueur, Cipolla, "Semantic object classes in video", Pattern Recognition Letters 2009;
Badrinarayanan, Kendall, Cipolla, "SegNet", arXiv 1511.00561.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from mmca.errors import InputError

from .images import listed, read, with_progress, write_jpeg

# Source folder: output folder, number of images.
SPLITS = {'train': ('training', 367), 'val': ('validation', 101), 'test': ('test', 233)}
UNLABELED, IGNORED = 11, 255


def convert(source: Path, out: Path) -> dict[str, int]:
    """Write images/ and annotations/; return the number of images per split.

    Raises:
        InputError: a file is missing, damaged or unexpected.
    """
    files = {split: listed(source / split, number) for split, (_, number) in SPLITS.items()}
    for split, images in files.items():
        folder, number = SPLITS[split]
        listed(source / f'{split}annot', number)
        for image in with_progress(images, split):
            label_file = source / f'{split}annot' / image.name
            labels = read(label_file)
            if labels.ndim != 2 or labels.max() > UNLABELED:
                raise InputError(
                    f'{label_file}: expected one channel of values 0 to {UNLABELED}, got shape '
                    f'{labels.shape}, largest value {labels.max()}'
                )
            labels = np.where(labels == UNLABELED, IGNORED, labels).astype(np.uint8)
            path = out / 'annotations' / folder / image.name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(labels).save(path)
            write_jpeg(read(image), out / 'images' / folder / f'{image.stem}.jpg')
    return {split: len(images) for split, images in files.items()}
