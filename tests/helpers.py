"""What tests of several folders share."""

import io
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / 'configs'
DET = str(CONFIGS / 'coco/maskrcnn_ca_pvt_t.py')
SEG = str(CONFIGS / 'ade20k/fpn_ca_pvt_t.py')
CLS = str(CONFIGS / 'imagenet/ca_deit_t.py')

needs_mmpretrain = pytest.mark.skipif(
    find_spec('mmpretrain') is None, reason='needs requirements-pretrain.txt'
)

# Exports, compiles in one graph, computes and casts to half precision on CPUs.
needs_new_torch = pytest.mark.skipif(
    torch.__version__ < (2, 6), reason=f'torch {torch.__version__} lacks it; torch 2.6 has it'
)
half_dtypes = pytest.mark.parametrize(
    'dtype', [pytest.param(torch.float16, marks=needs_new_torch), torch.bfloat16]
)


def slow(*values) -> list:
    """Parameters of slow cases for `pytest.mark.parametrize`; a tuple holds several arguments."""
    values = [value if isinstance(value, tuple) else (value,) for value in values]
    return [pytest.param(*value, marks=pytest.mark.slow) for value in values]


# --- Configs

# A small segmentor, and the options that fit its pipelines.
TINY = f"""
_base_ = {SEG!r}
model = dict(
    data_preprocessor=dict(size=(32, 32)),
    backbone=dict(_delete_=True, type='mmca.CAPVT', arch=dict(
        embed_dims=(8, 16, 16, 32), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))),
    neck=dict(in_channels=[8, 16, 16, 32], out_channels=16),
    decode_head=dict(in_channels=[16, 16, 16, 16], channels=16))
one_process = dict(num_workers=0, persistent_workers=False)
train_dataloader = one_process
val_dataloader = one_process
test_dataloader = one_process
train_cfg = dict(max_iters=1, val_interval=1)
default_hooks = dict(checkpoint=dict(interval=1))
"""
SMALL_IMAGES = [
    'train_dataloader.dataset.pipeline.2.scale=(48,32)',
    'train_dataloader.dataset.pipeline.3.crop_size=(32,32)',
    'val_dataloader.dataset.pipeline.1.scale=(48,32)',
    'test_dataloader.dataset.pipeline.1.scale=(48,32)',
]


def declared_parameters(name: str) -> int:
    """The number of parameters that the metafile gives for a config such as 'coco/NAME'."""
    content = yaml.safe_load((CONFIGS / name).with_name('metafile.yml').read_text())
    models = {model['Config']: model['Metadata'] for model in content['Models']}
    return models[f'configs/{name}.py']['Parameters']


def empty_weights(name: str, **options: object) -> bytes:
    """A checkpoint of a backbone such as 'pvt_t', small: each tensor is one zero, repeated."""
    from mmca.backbones.catalog import find_backbone

    cls, arch = find_backbone(name)
    with torch.device('meta'):
        state = cls(arch, **options).state_dict()
    file = io.BytesIO()
    torch.save({'model': {k: torch.zeros(1).expand(t.shape) for k, t in state.items()}}, file)
    return file.getvalue()


# --- Commands


def python(*argv, env=None, **options):
    """Run Python with mmca on its path and changes of the environment; returns the process."""
    env = {**os.environ, 'PYTHONPATH': str(ROOT), **(env or {})}
    command = [sys.executable, *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, env=env, **options)


def error_line(err: str) -> str:
    """The one line that starts with 'error: ' on stderr."""
    lines = [line for line in err.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1, err
    assert 'Traceback' not in err
    return lines[0]


def iteration_of(checkpoint: Path) -> int:
    """The iteration at which a run wrote a checkpoint; the file is our own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', raising=False)
        return torch.load(checkpoint, weights_only=False)['meta']['iter']


def forget_mmengine() -> None:
    """Forget mmengine's global state: loggers hold the streams of the test before."""
    from mmengine.logging import MessageHub, MMLogger
    from mmengine.visualization import Visualizer

    for kind in (MMLogger, MessageHub, Visualizer, *Visualizer.__subclasses__()):
        kind._instance_dict.clear()


# --- Tiny data sets


def write_image(path: Path, values: np.ndarray) -> None:
    """Write an image file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def write_coco(root: Path, split: str, number: int, names: tuple[str, ...]) -> Path:
    """Write black images with one object each of the first category, in COCO's layout.

    Returns the annotation file.
    """
    images = [{'id': i, 'file_name': f'{i}.jpg', 'height': 32, 'width': 32} for i in range(number)]
    for image in images:
        write_image(root / f'{split}2017' / image['file_name'], np.zeros((32, 32, 3)))
    box = {'bbox': [2, 2, 20, 20], 'area': 400, 'iscrowd': 0, 'category_id': 1}
    box['segmentation'] = [[2, 2, 22, 2, 22, 22, 2, 22]]
    path = root / f'annotations/instances_{split}2017.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        'info': {'categories': 'this is not the list', 'images': [1, 2]},
        'images': images,
        'annotations': [{'id': i, 'image_id': i, **box} for i in range(number)],
        'categories': [{'id': 7 * i + 1, 'name': name} for i, name in enumerate(names)],
    }
    path.write_text(json.dumps(content))
    return path


def write_ade(root: Path, train: int, val: int) -> Path:
    """Write black images, all pixels of class 149, in ADE20K's layout; returns the folder."""
    folder = root / 'ADEChallengeData2016'
    for split, number in (('training', train), ('validation', val)):
        for i in range(number):
            write_image(folder / f'images/{split}/{i}.jpg', np.zeros((32, 32, 3)))
            write_image(folder / f'annotations/{split}/{i}.png', np.full((32, 32), 150))
    return folder
