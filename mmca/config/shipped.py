"""The configs that come with mmca: where they are, and what they are called."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from mmca.errors import InputError

PACKAGE = Path(__file__).resolve().parents[1]
PREFIX = 'mmca::'  # of a shipped config in `_base_`


def checkout() -> Path | None:
    """The folder that mmca was cloned into, or None for an installed package."""
    root = PACKAGE.parent
    return root if (root / 'pyproject.toml').is_file() and (root / 'configs').is_dir() else None


def config_root() -> Path:
    """The folder of the shipped configs: in the installed package, else the checkout's.

    Raises:
        InputError: there is none.
    """
    installed = PACKAGE / '.mim' / 'configs'
    if installed.is_dir():
        return installed
    root = checkout()
    if root is None:
        raise InputError(f'{installed} is missing: install mmca again')
    return root / 'configs'


def config_names() -> list[str]:
    """The names of all shipped configs, such as 'coco/maskrcnn_ca_pvt_s', sorted."""
    root = config_root()
    paths = (path.relative_to(root).with_suffix('') for path in root.glob('*/*.py'))
    return sorted(path.as_posix() for path in paths if path.parts[0] != '_base_')


def find_config(name: str) -> str:
    """Find a config by its file or by the name of a shipped one.

    Args:
        name: a file, or a name with or without 'mmca::', 'configs/' and '.py'.

    Returns:
        The file; `name` itself where that is one.

    Raises:
        InputError: neither; the message tells the nearest names.
    """
    if Path(name).is_file():
        return name
    wanted = name.removeprefix(PREFIX).removeprefix('./').removeprefix('configs/')
    wanted = wanted.removesuffix('.py')
    path = config_root() / f'{wanted}.py'
    if '..' not in Path(wanted).parts and path.is_file():
        return str(path)
    raise InputError(f'config not found: {name}{_nearest(wanted)}')


def _nearest(wanted: str) -> str:
    names = config_names()
    found = get_close_matches(wanted, names, n=3, cutoff=0.5)
    by_stem = {name.rpartition('/')[2]: name for name in names}
    if not found:  # a name without its folder, or in another one
        stems = get_close_matches(wanted.rpartition('/')[2], by_stem, n=3, cutoff=0.6)
        found = [by_stem[stem] for stem in stems]
    if found:
        return f'; the nearest shipped ones are {", ".join(found)} (mmca config --list)'
    return ' (mmca config --list shows the shipped ones)'
