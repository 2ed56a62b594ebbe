"""Find the images and videos a user names, and a unique name for each result."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mmca.io import IMAGE_SUFFIXES

VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg')


@dataclass(frozen=True)
class Source:
    """An image or a video.

    Attributes:
        path: the file.
        file_name: its path below the folder that all inputs share.
        name: `file_name` without suffix, numbered if another source has that name.
    """

    path: Path
    file_name: str
    name: str

    @property
    def is_video(self) -> bool:
        """Whether the suffix belongs to a video."""
        return self.path.suffix.lower() in VIDEOS


def find_sources(
    inputs: Iterable[str | Path], out: str | Path
) -> tuple[list[Source], list[str], int]:
    """Find images and videos.

    Args:
        inputs: files, folders (searched with their subfolders) and glob patterns.
        out: the folder of the results, which is not searched.

    Returns:
        The sources, each file once; the inputs that match no image or video; and the number of
        files in folders that were skipped because of their suffix.
    """
    roots, paths, missing, skipped = [], {}, [], 0
    for text in map(str, inputs):
        root, files = _expand(text, Path(out).absolute())
        known = [p for p in files if p == root or p.suffix.lower() in IMAGE_SUFFIXES + VIDEOS]
        skipped += len(files) - len(known)
        if known:
            roots.append(root.parent if root.is_file() else root)
            paths |= dict.fromkeys(known)
        else:
            missing.append(text)
    sources: dict[str, Source] = {}
    for path in paths:
        file_name = path.relative_to(os.path.commonpath(roots))
        name = stem = file_name.with_suffix('').as_posix()
        number = 1
        while name in sources:
            number += 1
            name = f'{stem}_{number}'
        sources[name] = Source(path, file_name.as_posix(), name)
    return list(sources.values()), missing, skipped


def _expand(text: str, out: Path) -> tuple[Path, list[Path]]:
    """Return the file or folder that an input starts from, and the files it stands for."""
    root = path = Path(os.path.abspath(os.path.expanduser(text)))
    if path.is_file():
        return path, [path]
    found = path.rglob('*') if path.is_dir() else map(Path, glob.iglob(str(path), recursive=True))
    while glob.has_magic(str(root)) and not root.is_dir():
        root = root.parent
    return root, sorted(item for item in found if item.is_file() and out not in item.parents)
