"""The images and videos that a user names, and a name for the results of each."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmca.errors import InputError

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.ppm', '.pgm', '.tif', '.tiff', '.webp')
VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg')


@dataclass(frozen=True)
class Source:
    """An image or a video.

    Attributes:
        path: of the file.
        file_name: its path from the folder that all inputs have in common.
        name: the same without suffix; numbered where another source has that name.
    """

    path: Path
    file_name: str
    name: str

    @property
    def is_video(self) -> bool:
        """Whether the file's suffix is that of a video."""
        return self.path.suffix.lower() in VIDEOS


def find_sources(inputs: Sequence[str], out: str | Path) -> tuple[list[Source], int]:
    """Find images and videos.

    Args:
        inputs: files, folders (searched with all folders in them) and glob patterns.
        out: the folder of the results; what is in it is not an input.

    Returns:
        The sources, each file once, and the number of files that were passed over in folders
        because their suffix is of neither an image nor a video.

    Raises:
        InputError: no such file, or nothing matches.
    """
    roots, paths, others = [], {}, 0
    for text in inputs:
        root, found, passed_over = _expand(text, Path(out).absolute())
        if not found:
            raise InputError(
                f'no image or video in {text} (known suffixes: {", ".join(IMAGES + VIDEOS)})'
            )
        roots.append(root)
        others += passed_over
        paths |= dict.fromkeys(found)
    common = os.path.commonpath(roots)
    sources, taken = [], set()
    for path in paths:
        file_name = path.relative_to(common)
        name = stem = file_name.with_suffix('').as_posix()
        number = 1
        while name in taken:
            number += 1
            name = f'{stem}_{number}'
        taken.add(name)
        sources.append(Source(path, file_name.as_posix(), name))
    return sources, others


def _expand(text: str, out: Path) -> tuple[Path, list[Path], int]:
    """The folder that names are relative to, the files, and how many others were passed over."""
    path = Path(os.path.abspath(os.path.expanduser(text)))
    if path.is_file():
        return path.parent, [path], 0
    if path.is_dir():
        root, found = path, path.rglob('*')
    elif glob.has_magic(text):
        root = path
        while glob.has_magic(str(root)):
            root = root.parent
        found = (Path(name) for name in glob.iglob(str(path), recursive=True))
    else:
        raise InputError(f'no such file or folder: {text}')
    files = sorted(item for item in found if item.is_file() and out not in item.parents)
    known = [item for item in files if item.suffix.lower() in IMAGES + VIDEOS]
    return root, known, len(files) - len(known)
