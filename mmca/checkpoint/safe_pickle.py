"""An unpickler for untrusted checkpoints, passed to torch.load as its pickle_module.

Training checkpoints hold more than tensors: mmengine's log buffers, yacs configs, numpy scalars.
torch.load(weights_only=True) refuses such files, and ordinary unpickling executes them. This one
builds tensors and containers and replaces every other object by an inert one: nothing that a file
names is imported or called.
"""

import pickle
from typing import IO, Any

import torch

_HARMLESS = {
    ('collections', 'OrderedDict'),
    ('torch._utils', '_rebuild_tensor_v2'),
    ('torch._utils', '_rebuild_tensor_v3'),
    ('torch._utils', '_rebuild_parameter'),
    ('torch.storage', 'UntypedStorage'),
}


class Inert:
    """Stands for an object that was not built; takes whatever a pickle does to it."""

    def __new__(cls, *args: Any, **kwargs: Any) -> 'Inert':
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __call__(self, *args: Any, **kwargs: Any) -> 'Inert':
        return self

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, item: Any) -> None: ...

    def extend(self, items: Any) -> None: ...

    def add(self, item: Any) -> None: ...


class Unpickler(pickle.Unpickler):
    """Builds tensors and containers; see the module."""

    def find_class(self, module: str, name: str) -> Any:
        """Look up one of the few harmless names; anything else is inert."""
        is_torch_type = module == 'torch' and (
            name.isidentifier()  # no dotted way from torch into something else
            and (name.endswith('Storage') or isinstance(getattr(torch, name, None), torch.dtype))
        )
        if is_torch_type or (module, name) in _HARMLESS:
            return super().find_class(module, name)
        return Inert


def load(file: IO[bytes], **options: Any) -> Any:
    """Read one pickle; torch.load takes the parts of its old format with this.

    Args:
        file: open for binary reading.
        options: of `pickle.Unpickler`, which torch passes on.

    Returns:
        What the pickle holds, made of tensors, containers and inert objects.
    """
    return Unpickler(file, **options).load()
