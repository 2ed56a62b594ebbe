"""Files: atomic writes, and images as training reads them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mmca.errors import InputError

if TYPE_CHECKING:
    import numpy as np

IMAGE_SUFFIXES = (
    *('.jpg', '.jpeg', '.jfif', '.png', '.bmp', '.ppm', '.pgm', '.tif', '.tiff', '.webp'),
)
ORIENTATION = 0x0112  # EXIF tag; from 5 on, width and height change places
COCO_FIELDS = {  # of the entries in a COCO file's lists
    'images': ('id', 'file_name', 'width', 'height'),
    'annotations': ('image_id', 'category_id', 'bbox'),
    'categories': ('id', 'name'),
}
ENDS = {'JPEG': b'\xff\xd9', 'PNG': b'IEND\xaeB`\x82'}


@contextmanager
def atomic_write(path: str | Path, mode: str = 'wb') -> Iterator[IO]:
    """Open a file that replaces `path` once it is complete and on disk.

    Args:
        path: the file; it changes only at the end, and not after an exception.
        mode: 'wb' or 'w'.

    Raises:
        OSError: the file cannot be written, for instance because the disk is full.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, 'weights.pth')
        ...     with atomic_write(path) as file:
        ...         _ = file.write(b'weights')
        ...     path.read_bytes()
        b'weights'
    """
    part = f'{path}.part'  # a fixed name, so that killed runs do not pile up files
    try:
        with open(part, mode, encoding=None if 'b' in mode else 'utf-8') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        with suppress(OSError):
            os.remove(part)
        if isinstance(error, OSError):
            error.filename = str(path)  # errors of write() name no file
        raise


def read_coco(path: str | Path) -> dict:
    """Read a COCO file and complete it, as :func:`complete_coco`.

    Raises:
        InputError: not JSON, or not an object.
    """
    try:
        content = json.loads(Path(path).read_bytes())  # in any Unicode encoding
    except ValueError as error:
        raise InputError(f'cannot read {path}: {error}') from error
    if not isinstance(content, dict):
        raise InputError(f'{path} is not a COCO file: it must contain a JSON object')
    return complete_coco(content)


def complete_coco(content: dict) -> dict:
    """Add in place what some programs leave out of a COCO file's content, and return it.

    A missing `area` becomes width x height, a missing `iscrowd` 0, Windows' backslashes in file
    names slashes, and category names text. Categories without objects go if another has their name.
    """
    annotations, categories = content.get('annotations') or (), content.get('categories') or ()
    for entry in annotations:
        if entry.get('iscrowd') is None:
            entry['iscrowd'] = 0
        if entry.get('area') is None and _are_numbers(entry.get('bbox'), 4):
            entry['area'] = entry['bbox'][2] * entry['bbox'][3]
    for image in content.get('images') or ():
        if isinstance(image.get('file_name'), str):
            image['file_name'] = image['file_name'].replace('\\', '/')
    used = {entry.get('category_id') for entry in annotations}
    names = {str(entry.get('name')) for entry in categories if entry.get('id') in used}
    content['categories'] = []
    for entry in categories:
        entry['name'] = str(entry['name'])
        if entry.get('id') in used or entry['name'] not in names:
            content['categories'].append(entry)
            names.add(entry['name'])
    return content


def check_coco_fields(content: dict) -> None:
    """Check the entries of a COCO file's content for what training reads.

    Raises:
        InputError: an entry lacks a field, or a size or box is not made of numbers.
    """
    for key, fields in COCO_FIELDS.items():
        for index, entry in enumerate(content.get(key) or ()):
            name = f'number {index} of its {key}'
            absent = [field for field in fields if field not in entry]
            if absent:
                raise InputError(f'{name} has no {", ".join(absent)}')
            size = [entry.get('width'), entry.get('height')]
            if key == 'images' and not _are_numbers(size, 2):
                raise InputError(f'{name} has the width and height {size}: write numbers')
            box = entry.get('bbox')
            if key == 'annotations' and not _are_numbers(box, 4):
                raise InputError(f'{name} has the bbox {box}: write [x, y, width, height]')


def _are_numbers(values: Any, count: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(isinstance(value, (int, float)) for value in values)
    )


def is_hidden(path: Path, root: Path) -> bool:
    """Whether a file or a folder below `root` on the way to it is hidden, as .ipynb_checkpoints."""
    return any(part.startswith('.') for part in path.relative_to(root).parts)


def failed_download(path: Path) -> str | None:
    """Name what a failed download left at a path; None if it may be the file itself."""
    with path.open('rb') as file:
        head = file.read(64).lstrip()
    if not head:
        return 'the file is empty'
    if head.startswith(b'<'):
        return 'the file is a web page'
    if head.startswith(b'version https://git-lfs'):
        return 'the file is a Git LFS pointer, which git lfs pull resolves'
    return None


def find_images(folder: str | Path) -> list[Path]:
    """List the images in a folder and its subfolders, by `IMAGE_SUFFIXES`, sorted by path.

    Raises:
        InputError: the folder does not exist or has no images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f'no such folder: {folder}')
    files = sorted(
        path
        for path in folder.rglob('*')
        if path.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(path, folder)
    )
    if not files:
        raise InputError(f'no images in {folder} ({", ".join(IMAGE_SUFFIXES)})')
    return files


def read_image(path: str | Path) -> np.ndarray:
    """Decode an image: (H, W, 3), uint8, BGR, upright by its EXIF orientation.

    Raises:
        InputError: the file is missing, truncated or not an image.
    """
    import mmcv

    image_size(path)
    image = mmcv.imread(str(path))
    if image is None:
        raise InputError(f'cannot decode the image {path}: replace or remove it')
    return image


def image_size(path: str | Path, upright: bool = True) -> tuple[int, int]:
    """Read an image's width and height from its header, and find truncated files.

    OpenCV fills the missing part of a truncated file with gray instead of failing.

    Args:
        path: the file.
        upright: follow the EXIF orientation, as training does; else the stored size.

    Raises:
        InputError: the file is missing, empty, truncated or not an image.
    """
    from PIL import Image, UnidentifiedImageError

    name, path = path, Path(path)
    if not path.is_file():
        raise InputError(f'no such image: {name}')
    try:
        with Image.open(path) as image:
            if ENDS.get(image.format, b'') not in path.read_bytes()[-16:]:
                image.load()  # some complete files end otherwise
            width, height = image.size
            turned = (
                upright
                and image.format in ('JPEG', 'MPO', 'PNG')
                and image.getexif().get(ORIENTATION, 1) > 4
            )
    except UnidentifiedImageError:
        size = _size_by_opencv(path)
        if size is None:
            reason = failed_download(path) or 'the file is not an image of a known format'
            raise InputError(f'cannot read {path}: {reason}; replace or remove it') from None
        return size
    except Image.DecompressionBombError:
        return _size_by_opencv(path)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f'cannot read {path}: {error}; replace or remove it') from error
    return (height, width) if turned else (width, height)


def _size_by_opencv(path: Path) -> tuple[int, int] | None:
    """Width and height of an image that Pillow refuses."""
    import cv2
    import numpy as np

    values = np.fromfile(path, np.uint8)
    image = cv2.imdecode(values, cv2.IMREAD_COLOR) if values.size else None
    return None if image is None else image.shape[1::-1]
