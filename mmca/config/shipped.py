"""Find and list the configs that come with mmca."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from mmca.errors import InputError

PACKAGE = Path(__file__).resolve().parents[1]
FOLDERS = {  # folder -> task, data set and input size
    'coco': 'Detection and instance segmentation on COCO (mmdet), GMACs at 1280 x 800',
    'ade20k': 'Semantic segmentation on ADE20K (mmseg), GMACs at 2048 x 512',
    'imagenet': 'Classification on ImageNet for pre-training (mmpretrain), GMACs at 224 x 224',
    'penn_fudan': 'Instance segmentation on Penn-Fudan (mmdet), for CPUs, GMACs at 400 x 300',
    'camvid': 'Semantic segmentation on CamVid (mmseg), for CPUs, GMACs at 320 x 240',
    'mini': 'The synthetic data set of tools/make_mini.py, minutes on a CPU',
}


def checkout() -> Path | None:
    """The folder that mmca was cloned into, or None for an installed package."""
    root = PACKAGE.parent
    return root if (root / 'pyproject.toml').is_file() and (root / 'configs').is_dir() else None


def config_root() -> Path:
    """The folder of the shipped configs, in the installed package or the checkout."""
    installed, root = PACKAGE / '.mim' / 'configs', checkout()
    if not installed.is_dir() and root is None:
        raise InputError(f'{installed} is missing: install mmca again')
    return installed if installed.is_dir() else root / 'configs'


def config_names() -> list[str]:
    """The names of all shipped configs, such as 'coco/maskrcnn_ca_pvt_s', sorted."""
    root = config_root()
    paths = (path.relative_to(root).with_suffix('') for path in root.glob('*/*.py'))
    return sorted(path.as_posix() for path in paths if path.parts[0] != '_base_')


def shipped_models(folder: str) -> list[dict]:
    """The models in a folder of shipped configs, a key of `FOLDERS`, as in its metafile."""
    from mmengine.fileio import load

    return load(config_root() / folder / 'metafile.yml')['Models']


def find_config(name: str) -> str:
    """Find a config by its file or by the name of a shipped config.

    Args:
        name: a file, which is returned as it is, or a name with or without 'configs/' and '.py'.

    Raises:
        InputError: there is neither; the message suggests the nearest names.
    """
    if Path(name).is_file():
        return name
    wanted = name.removeprefix('./').removeprefix('configs/').removesuffix('.py')
    path = config_root() / f'{wanted}.py'
    if '..' not in Path(wanted).parts and path.is_file():
        return str(path)
    near = get_close_matches(wanted, config_names(), n=3, cutoff=0.5)
    hint = f'; nearest shipped configs: {", ".join(near)}' if near else ''
    raise InputError(f'config not found: {name}{hint} (mmca config --list)')
