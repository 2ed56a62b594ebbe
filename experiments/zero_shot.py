"""Count the images that a converted DeiT-T classifies right without any training."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from mmcv import imread
from torch import Tensor

from mmca.backbones import DeiT
from mmca.checkpoint import load_pretrained, read_checkpoint
from mmca.distill import UnlabeledImages, calibrate
from mmca.errors import InputError
from mmca.io import find_images

SIDE = 224
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
BATCH = 25
CALIBRATED_ON = 200  # images


def labeled_images(folders: Sequence[str], every: int) -> list[tuple[Path, int]]:
    """The images of classification folders and their labels: a class is a folder, by name.

    Args:
        folders: with a folder of images per class; a class may be in several.
        every: take each n-th image in the order of classes and paths.

    Raises:
        InputError: no images.
    """
    files = sorted((p.parent.name, p) for folder in folders for p in find_images(folder))
    labels = {name: i for i, name in enumerate(sorted({name for name, _ in files}))}
    return [(path, labels[name]) for name, path in files[::every]]


@torch.no_grad()
def count_right(
    teacher: str,
    attn: str,
    files: Sequence[tuple[Path, int]],
    gains: Sequence[float] | None = None,
    window: int | None = None,
    unlabeled: Sequence[str] = (),
) -> int:
    """Convert ImageNet's DeiT-T, class token included, and classify center crops.

    Args:
        teacher: checkpoint with the classifier's head.
        attn: one letter, or one per block.
        files: from :func:`labeled_images`.
        gains: (g_a, g_b) of every head of attention with keys.
        window: tokens a side of the windows of attention with exact windows, its own by default.
        unlabeled: folders with images to calibrate on, see `mmca.distill.calibrate`.

    Raises:
        InputError: the checkpoint has no head, or does not fit.
    """
    tensors = read_checkpoint(teacher).tensors
    if 'head.weight' not in tensors:
        raise InputError(f'{teacher} has no classifier: head.weight is missing')
    options = {'windowed_circulant': {'window_size': window}} if window else {}
    model, softmax = (
        DeiT('tiny', attn=kind, attn_cfg=cfg, with_cls_token=True, out_type='cls_token').eval()
        for kind, cfg in ((attn, options), ('S', {}))
    )
    load_pretrained(model, teacher)
    for name, parameter in model.named_parameters() if gains else ():
        if name.endswith('.gains'):
            parameter.copy_(parameter.new_tensor(gains))
    if unlabeled:
        load_pretrained(softmax, teacher)
        views = UnlabeledImages(unlabeled, SIDE).middle_views(CALIBRATED_ON)
        calibrate(model, softmax, _normalize(torch.stack(views).flip(1).float()))
    right = 0
    for images, labels in _batches(files):
        logits = model(images)[0] @ tensors['head.weight'].T + tensors['head.bias']
        right += int((logits.argmax(1) == labels).sum())
    return right


def _batches(files: Sequence[tuple[Path, int]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (B, 3, 224, 224) and labels (B,)."""
    for start in range(0, len(files), BATCH):
        batch = files[start : start + BATCH]
        crops = [_crop(imread(str(path), channel_order='rgb')) for path, _ in batch]
        yield _normalize(torch.stack(crops)), torch.tensor([label for _, label in batch])


def _normalize(images: Tensor) -> Tensor:
    """(B, 3, H, W), RGB from 0 to 255."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (images - mean) / std


def _crop(image: np.ndarray) -> Tensor:
    """(H, W, 3) -> the center, (3, 224, 224)."""
    top, left = (round((size - SIDE) / 2) for size in image.shape[:2])
    crop = image[top : top + SIDE, left : left + SIDE]
    return torch.from_numpy(crop.copy()).permute(2, 0, 1).float()
