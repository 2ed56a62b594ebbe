"""What the libraries read from files stays data: their loaders would execute it.

Python configs are programs and run when they are read; everything else does not.
"""

import os
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from pickle import Unpickler, UnpicklingError
from typing import IO, Any
from urllib.parse import urlparse

from mmca.errors import InputError

DATA = {  # what pickles of builtin types and of arrays name, of all protocols
    ('builtins', 'set'),
    ('builtins', 'frozenset'),
    ('builtins', 'complex'),
    ('collections', 'OrderedDict'),
    ('numpy', 'dtype'),
    ('numpy', 'ndarray'),
    ('numpy.core.multiarray', '_reconstruct'),
    ('numpy.core.multiarray', 'scalar'),
    ('numpy.core.numeric', '_frombuffer'),
    ('_codecs', 'encode'),
}


def load_weights_only() -> None:
    """Make torch.load refuse code in this process and those that it starts.

    mmengine reads a checkpoint that torch refuses a second time, with code; torch's environment
    variable turns that into an error.
    """
    os.environ.pop('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', None)
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'


def load_checkpoints_safely() -> None:
    """Make mmengine read files and addresses of checkpoints as mmca does."""
    from mmengine.runner.checkpoint import CheckpointLoader

    CheckpointLoader.register_scheme('', load_from_local, force=True)
    CheckpointLoader.register_scheme(('http://', 'https://'), load_from_http, force=True)


def _logs() -> list:
    """What mmengine's own checkpoints hold besides weights: log buffers, in numpy's types."""
    import numpy as np
    from mmengine.runner.checkpoint import get_torch_safe_globals

    # mmengine does not name all of numpy's data types, and names Python's whole `getattr`.
    known = [kind for kind in get_torch_safe_globals() if kind is not getattr]
    kinds = (getattr(np.dtypes, name) for name in dir(np.dtypes) if name.endswith('DType'))
    known += [kind for kind in kinds if isinstance(kind, type)]
    return [*known, (_statistic, 'builtins.getattr')]


def _statistic(owner: Any, name: str) -> Any:
    """The `getattr` of a log buffer's pickle, which names its methods such as 'mean'."""
    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer or name.startswith('_'):
        raise UnpicklingError(f'getattr of {name!r}')
    return getattr(HistoryBuffer, name)


def load_from_local(path: str, map_location: Any = None) -> Any:
    """Read a file for mmengine, see :func:`mmca.checkpoint.reader.load_whole`."""
    from mmca.checkpoint.reader import load_whole

    return load_whole(path, map_location, _logs())


def load_from_http(address: str, map_location: Any = None) -> Any:
    """Download a checkpoint to torch's cache, unless it is there, and read it.

    Args:
        address: of a file, http or https.
        map_location: as for torch.load.

    Returns:
        Its content.

    Raises:
        InputError: the address cannot be read, or the file is no checkpoint.
    """
    import torch

    name = PurePosixPath(urlparse(address).path).name
    folder = Path(torch.hub.get_dir(), 'checkpoints')
    if name in ('', '..'):
        raise InputError(f'{address} names no file')
    if not (folder / name).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(address, str(folder / name), progress=False)
        except (OSError, ValueError, HTTPException) as error:
            raise InputError(f'cannot download {address}: {error}') from error
    return load_from_local(str(folder / name), map_location)


def load_files_as_data() -> None:
    """Make mmengine read YAML and pickles without building objects other than data."""
    import yaml
    from mmengine.fileio.handlers import PickleHandler, register_handler, yaml_handler

    @register_handler(['pickle', 'pkl'])
    class DataHandler(PickleHandler):
        def load_from_fileobj(self, file: IO[bytes], **kwargs: Any) -> Any:
            return DataUnpickler(file, **kwargs).load()

    yaml_handler.Loader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)


class DataUnpickler(Unpickler):
    """Reads pickles of Python's own types and numpy arrays, such as lists of annotations."""

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle names.

        Args:
            module: where it is.
            name: of a class or function there.

        Returns:
            It, if it builds data.

        Raises:
            InputError: it could do something else.
        """
        known = module.replace('__builtin__', 'builtins').replace('numpy._core', 'numpy.core')
        if (known, name) not in DATA:
            raise InputError(
                f'a pickle names {module}.{name}, which could run code, and is not loaded; '
                'write its data as JSON'
            )
        return super().find_class(module, name)
