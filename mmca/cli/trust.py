"""What the libraries read from files stays data: their loaders would execute it.

Python configs are programs and run when they are read; everything else does not.
"""

import os


def load_weights_only() -> None:
    """Make torch.load refuse code in this process and those that it starts.

    mmengine reads a checkpoint that torch refuses a second time, with code; torch's environment
    variable turns that into an error.
    """
    os.environ.pop('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', None)
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'


def allow_own_checkpoints() -> None:
    """Let torch build what mmengine's checkpoints hold besides weights: logs, in numpy's types.

    mmengine names its log buffers, but not all of numpy's data types.
    """
    import numpy as np
    import torch

    kinds = (getattr(np.dtypes, name) for name in dir(np.dtypes) if name.endswith('DType'))
    torch.serialization.add_safe_globals([kind for kind in kinds if isinstance(kind, type)])


def load_yaml_safely() -> None:
    """Make mmengine read YAML without the tags that build Python objects."""
    import yaml
    from mmengine.fileio.handlers import yaml_handler

    yaml_handler.Loader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
