"""What torch.save writes, told by content from what only looks like it."""

import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mmca.errors import InputError

ZIP_START = b'PK\x03\x04'  # by which torch itself tells the two formats apart
REPEATED = 2**30  # bytes of a tensor that may be fewer values repeated, as torch.Tensor.expand does
PROGRAM = 'constants.pkl'  # an entry that torch.jit.save alone writes


def is_zip(path: Path) -> bool:
    """Whether torch takes a file for one of its zip archives; else it is in the legacy format."""
    with path.open('rb') as file:
        return file.read(len(ZIP_START)) == ZIP_START


def check_archive(path: Path) -> None:
    """Refuse files that torch.save did not write, before anything of them is read into memory.

    Args:
        path: a file.

    Raises:
        InputError: a TorchScript program, the tar format of torch before 0.2, or a zip archive
            that would become larger than it is.
        zipfile.BadZipFile: a damaged zip archive.
    """
    if not is_zip(path):
        if tarfile.is_tarfile(path):
            raise InputError(
                f'{path} is in the tar format of the first torch versions, which cannot be read '
                'without running what is in it; save it again as a state dict'
            )
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.filename.endswith('/' + PROGRAM) for entry in entries):
        raise InputError(
            f'{path} is a TorchScript archive, a program that is not run; save its state_dict()'
        )
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if packed or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise InputError(
            f'{path} is a compressed zip archive, which torch.save does not write: unpack it if it '
            'holds a checkpoint'
        )


def check_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that no state dict of a model in training has.

    Args:
        path: the file that they come from.
        tensors: name -> tensor.

    Raises:
        InputError: a name that cannot be printed; a tensor without data, sparse, quantized, or
            larger than the file and `REPEATED`.
    """
    size = max(path.stat().st_size, REPEATED)
    for name, tensor in tensors.items():
        if not name.isprintable():
            raise InputError(f'{path} holds a tensor with the unprintable name {name!r}')
        ordinary = tensor.layout == torch.strided and tensor.device.type != 'meta'
        if not ordinary or tensor.is_quantized or tensor.is_nested:
            raise InputError(f'{path}: the tensor {name!r} is sparse, quantized or without data')
        stored = max(tensor.nbytes, tensor.untyped_storage().nbytes())
        if stored > size:
            raise InputError(
                f'{path}: the tensor {name!r} of shape {tuple(tensor.shape)} claims {stored} '
                f'bytes, the file has {path.stat().st_size}'
            )
