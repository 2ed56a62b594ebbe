"""Safe loading: checkpoints, YAML files and pickles stay data; nothing in them is executed.

mmengine unpickles a checkpoint that torch refuses, and builds the objects that YAML tags name. Here
our own loaders are registered instead, by mmengine's public registration functions. Python configs
are programs and run when they are read.
"""

from __future__ import annotations

import os
from pickle import Unpickler, UnpicklingError
from typing import IO, Any

from mmca.errors import InputError

DATA = {  # globals in pickles of builtin types and of arrays, in all protocols
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


def install() -> None:
    """Register the safe loaders with mmengine. Importing `mmca.engine` does it."""
    import yaml
    from mmengine.fileio.handlers import PickleHandler, YamlHandler, register_handler
    from mmengine.runner import CheckpointLoader

    CheckpointLoader.register_scheme(('', 'http://', 'https://'), load_from_local, force=True)

    @register_handler(['pickle', 'pkl'])
    class DataHandler(PickleHandler):
        def load_from_fileobj(self, file: IO[bytes], **kwargs: Any) -> Any:
            return DataUnpickler(file, **kwargs).load()

    class TupleLoader(getattr(yaml, 'CSafeLoader', yaml.SafeLoader)):
        """Reads the tuples that mmengine writes, too."""

    TupleLoader.add_constructor(
        'tag:yaml.org,2002:python/tuple',
        lambda loader, node: tuple(loader.construct_sequence(node, deep=True)),
    )

    @register_handler(['yaml', 'yml'])
    class SafeYamlHandler(YamlHandler):
        def load_from_fileobj(self, file: IO[str], **kwargs: Any) -> Any:
            return super().load_from_fileobj(file, **{**kwargs, 'Loader': TupleLoader})


def refuse_code() -> None:
    """Make every torch.load of this process and its children refuse code.

    `mmca train` and `mmca test` do it; in a notebook it would surprise.
    """
    os.environ.pop('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', None)
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'


def load_from_local(source: str, map_location: Any = None) -> dict:
    """Read a checkpoint for mmengine: a file, or what :func:`mmca.checkpoint.find_file` downloads.

    Returns:
        Its content; if it holds unknown objects, only the weights and the plain part of 'meta'.

    Raises:
        InputError: no such file, damaged, or not a checkpoint.
    """
    from mmca.checkpoint.reader import load_whole, read_checkpoint

    try:
        return load_whole(source, map_location, _log_types())
    except InputError:
        checkpoint = read_checkpoint(source)  # raises again if the file is damaged
        return {'state_dict': checkpoint.tensors, 'meta': dict(checkpoint.meta)}


def _log_types() -> list:
    """The types of mmengine's log buffers, which its checkpoints hold besides weights."""
    import numpy as np
    from mmengine.logging import HistoryBuffer

    functions = [value.__reduce__()[0] for value in (np.empty(0), np.float64())]
    dtypes = {type(np.dtype(code)) for code in np.typecodes['All']}
    getter = (_statistic, 'builtins.getattr')
    return [slice, np.ndarray, np.dtype, HistoryBuffer, *functions, *dtypes, getter]


def _statistic(owner: Any, name: str) -> Any:
    """The `getattr` in a log buffer's pickle, for its methods such as 'mean'."""
    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer or name.startswith('_'):
        raise UnpicklingError(f'getattr of {name!r}')
    return getattr(HistoryBuffer, name)


class DataUnpickler(Unpickler):
    """Reads pickles of Python's own types and numpy arrays, such as lists of annotations."""

    def find_class(self, module: str, name: str) -> Any:
        """Resolve a class or function that builds data.

        Raises:
            InputError: it could do something else.
        """
        known = module.replace('__builtin__', 'builtins').replace('numpy._core', 'numpy.core')
        if (known, name) not in DATA:
            raise InputError(
                f'a pickle file uses {module}.{name}, which could run code, so mmca does not load '
                'it; store its data as JSON'
            )
        return super().find_class(module, name)
