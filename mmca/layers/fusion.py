"""When a fused path may read the weights of submodules instead of calling them."""

import torch.nn.modules.module as torch_module
from torch import Tensor, nn

_GLOBAL_HOOKS = (
    '_global_forward_hooks',
    '_global_forward_pre_hooks',
    '_global_backward_hooks',
    '_global_backward_pre_hooks',
)
_HOOKS = ('_forward_hooks', '_forward_pre_hooks', '_backward_hooks', '_backward_pre_hooks')


def is_unmodified(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module is exactly torch's own, so that its weights say all that calling it does.

    A subclass (such as an adapter), a hook, a forward of the instance's own, or a parameter of
    another tensor type (such as a quantized one) makes it something else: it must then be called.

    Args:
        module: a submodule.
        kind: what it is built as, such as nn.Linear.

    Returns:
        True if nothing would notice that it is not called.

    Example:
        >>> from torch import nn
        >>> layer = nn.Linear(2, 2)
        >>> is_unmodified(layer, nn.Linear)
        True
        >>> handle = layer.register_forward_hook(lambda *_: None)
        >>> is_unmodified(layer, nn.Linear)
        False
    """
    parameters = (p for p in module._parameters.values() if p is not None)
    return (
        type(module) is kind
        and 'forward' not in module.__dict__
        and not any(getattr(module, name) for name in _HOOKS)
        and not any(getattr(torch_module, name) for name in _GLOBAL_HOOKS)
        and all(type(p) in (nn.Parameter, Tensor) for p in parameters)
    )


def is_unmodified_linear(module: nn.Module, bias: bool) -> bool:
    """:func:`is_unmodified` for a Linear that has a bias, or has none."""
    return is_unmodified(module, nn.Linear) and (module.bias is not None) == bias
