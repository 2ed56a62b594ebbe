"""Find and list the configs that come with mmca."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from mmca.errors import InputError

LIBRARIES = ('mmdet', 'mmseg', 'mmpretrain')
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
    """The folder of mmca's clone, or None for an installed package."""
    root = PACKAGE.parent
    return root if (root / 'pyproject.toml').is_file() and (root / 'configs').is_dir() else None


def config_root() -> Path:
    """The folder of the shipped configs, in the installed package or the checkout."""
    installed, root = PACKAGE / '.mim' / 'configs', checkout()
    if not installed.is_dir() and root is None:
        raise InputError(f'{installed} is missing: reinstall mmca')
    return installed if installed.is_dir() else root / 'configs'


def library_configs(library: str) -> Path:
    """The folder of the configs that come with mmdet, mmseg or mmpretrain.

    Raises:
        InputError: the library is not installed, or came without its configs.
    """
    spec = find_spec(library) if library in LIBRARIES else None
    if spec is None:
        known = ', '.join(f'{name}::' for name in LIBRARIES)
        raise InputError(f'{library}:: is not an installed library; choose from {known}')
    package = Path(spec.submodule_search_locations[0])
    for root in (package / '.mim' / 'configs', package.parent / 'configs'):  # installed, cloned
        if root.is_dir():
            return root
    raise InputError(f'{package} has no configs: reinstall {library}')


def config_names(root: Path | None = None) -> list[str]:
    """Names of all configs in a folder, such as 'coco/maskrcnn_ca_pvt_s'; default the shipped."""
    root = root or config_root()
    paths = (path.relative_to(root).with_suffix('') for path in root.glob('*/**/*.py'))
    return sorted(path.as_posix() for path in paths if path.parts[0] != '_base_')


def shipped_models(folder: str) -> list[dict]:
    """The models in a folder of shipped configs, a key of `FOLDERS`, as in its metafile."""
    from mmengine.fileio import load

    return load(config_root() / folder / 'metafile.yml')['Models']


def find_config(name: str) -> str:
    """Find a config by its file or by the name of a shipped config.

    Args:
        name: a file, which is returned as it is; a name with or without 'configs/' and '.py'; or
            a library's own config, such as 'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py'.

    Raises:
        InputError: there is none; the message suggests the nearest names.

    Example:
        >>> find_config('coco/maskrcnn_ca_pvt_s').endswith('maskrcnn_ca_pvt_s.py')
        True
    """
    if Path(name).is_file():
        return name
    library, _, wanted = name.rpartition('::')
    root = library_configs(library) if library else config_root()
    wanted = wanted.removeprefix('./').removeprefix('configs/').removesuffix('.py')
    path = root / f'{wanted}.py'
    if '..' not in Path(wanted).parts and path.is_file():
        return str(path)
    known = [f'{library}::{one}' if library else one for one in config_names(root)]
    near = get_close_matches(name.removesuffix('.py'), known, n=3, cutoff=0.5)
    hint = f'; closest names: {", ".join(near)}' if near else ''
    where = '' if library else ' (mmca config --list)'
    raise InputError(f'config not found: {name}{hint}{where}')
