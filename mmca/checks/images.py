"""What can be told of image files without decoding them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from mmca.errors import InputError
from mmca.checks.faults import Fault

ORIENTATION = 0x0112  # EXIF tag: 3 upside down, 6 and 8 on a side, 2, 4, 5 and 7 mirrored
TURNED = (5, 6, 7, 8)  # width and height change places
JPEG_END, GIF_END, PNG_END = b'\xff\xd9', b'\x3b', b'IEND'

CMYK = Fault('are CMYK', 'training reads them as RGB', False)
DEEP = Fault('have 16 bits a channel or more', 'training reads the upper 8', False)
ANIMATED = Fault('are animated or have several pages', 'training reads the first', False)
ALPHA = Fault('have transparency', 'training ignores it', False)
UPSIDE_DOWN = Fault(
    'are turned or mirrored by their EXIF data',
    'training sees them turned, and boxes, masks and label maps must fit that',
    False,
)


@dataclass(frozen=True)
class Header:
    """What the first bytes of an image file say.

    Attributes:
        stored: its width and height.
        seen: those that training sees, after the EXIF orientation.
        faults: what is unusual about it, none of it fatal.
    """

    stored: tuple[int, int]
    seen: tuple[int, int]
    faults: tuple[Fault, ...]


def find_absent(paths: Iterable[str]) -> list[str]:
    """Find the files that are not there; each folder is listed once.

    Args:
        paths: of files.

    Returns:
        Those that are absent.
    """
    names: dict[str, set[str]] = {}
    absent = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in names:
            names[folder] = (
                set(os.listdir(folder or '.')) if os.path.isdir(folder or '.') else set()
            )
        if name not in names[folder] and not os.path.exists(path):
            absent.append(path)
    return absent


def read_header(path: str, turns: bool = True) -> Header | None:
    """Look at an image's header, and at its end, which is missing where a copy broke off.

    Args:
        path: of the file.
        turns: whether training turns images by their EXIF orientation.

    Returns:
        The header, or None of a format that only OpenCV knows.

    Raises:
        InputError: it is no image, or truncated.
    """
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter('ignore')  # of large images
            if _ends_early(path, image.format):
                image.load()
            return _header_of(path, image, turns)
    except UnidentifiedImageError as error:
        return _only_for_opencv(path, error)
    except Image.DecompressionBombError:  # too large for Pillow, not for OpenCV
        return None
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f'cannot read {path}: {explain(path, error)}') from error


def explain(path: str, error: object) -> str:
    """Say why a file is no image, as far as its first bytes tell.

    Args:
        path: of the file.
        error: what its decoder said.

    Returns:
        The reason and the remedy.
    """
    reason, remedy = str(error).replace(f': {path}', ''), 'copy or download it again'
    if os.path.isdir(path):
        return 'it is a folder; name the image file'
    if not os.path.exists(path):
        return 'it is not there; put it back, or take it out of the annotations'
    with open(path, 'rb') as file:
        head = file.read(64).lstrip()
    if not head:
        reason = 'it is empty'
    elif head.startswith(b'<'):
        reason = 'it holds a web page or other markup'
    elif head.startswith(b'version https://git-lfs'):
        reason, remedy = 'it is a pointer of Git LFS', 'fetch the files with git lfs pull'
    elif isinstance(error, UnidentifiedImageError):
        reason = 'it is no image of a known format'
    return f'{" ".join(reason.split())}; {remedy}'


def _only_for_opencv(path: str, error: Exception) -> None:
    import cv2

    if os.path.getsize(path) and cv2.haveImageReader(path):
        return
    raise InputError(f'cannot read {path}: {explain(path, error)}') from error


def _ends_early(path: str, kind: str | None) -> bool:
    """Whether a file lacks what ends files of its kind, which need not mean that it is damaged."""
    with open(path, 'rb') as file:
        head = file.read(8)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 12))
        tail = file.read()
    if kind == 'WEBP':
        return int.from_bytes(head[4:8], 'little') + 8 > size
    ends = {'JPEG': tail[-2:] == JPEG_END, 'GIF': tail[-1:] == GIF_END, 'PNG': PNG_END in tail}
    return not ends.get(kind, kind not in ('BMP', 'TIFF'))


def _header_of(path: str, image: Image.Image, turns: bool) -> Header:
    faults = []
    if image.mode == 'CMYK':
        faults.append(CMYK)
    if image.mode.startswith(('I', 'F')) or _bits(path) == 16:
        faults.append(DEEP)
    if getattr(image, 'is_animated', False) and image.format != 'MPO':
        faults.append(ANIMATED)
    if image.mode in ('LA', 'PA', 'RGBA') or 'transparency' in image.info:
        faults.append(ALPHA)
    orientation = image.getexif().get(ORIENTATION, 1) if image.format in ('JPEG', 'MPO') else 1
    seen = image.size
    if turns and orientation in TURNED:
        seen = image.size[::-1]
    elif turns and orientation in (2, 3, 4):
        faults.append(UPSIDE_DOWN)
    return Header(image.size, seen, tuple(faults))


def _bits(path: str) -> int | None:
    """Bits a channel of a PNG file, which Pillow does not tell of color images."""
    with open(path, 'rb') as file:
        head = file.read(25)
    return head[24] if head.startswith(b'\x89PNG') else None
