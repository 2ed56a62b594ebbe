"""Circulant Attention for dense prediction: an OpenMMLab plugin.

Importing mmca registers its backbones with mmengine. With torch alone, `mmca.ops` and
`mmca.layers` work and nothing is registered.
"""

from importlib.util import find_spec

__version__ = '0.1.0'

if find_spec('mmengine') is not None:
    import mmca.backbones
    import mmca.hooks
    import mmca.necks  # noqa: F401  (all register)
