"""Keys of a config, the parameters that classes know, and the known name that is nearest."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.registry import Registry

# What the libraries read at the top of a config; all other names there are its own variables.
RUN_KEYS = (
    *('model', 'data_preprocessor', 'model_wrapper_cfg', 'tta_model', 'tta_pipeline'),
    *('train_dataloader', 'val_dataloader', 'test_dataloader'),
    *('train_cfg', 'val_cfg', 'test_cfg', 'val_evaluator', 'test_evaluator'),
    *('optim_wrapper', 'param_scheduler', 'auto_scale_lr', 'default_hooks', 'custom_hooks'),
    *('work_dir', 'experiment_name', 'load_from', 'resume', 'launcher', 'log_level'),
    *('log_processor', 'visualizer', 'default_scope', 'custom_imports', 'env_cfg', 'randomness'),
    *('sync_bn', 'find_unused_parameters', 'compile', 'runner_type'),
)
# The hooks that `mmca train` gives to configs without them: what ends a training whose loss stays
# NaN, what writes a checkpoint upon SIGTERM, what goes on from one inside an epoch, and what logs
# images per second.
OWN_HOOKS = {
    'finite_loss': 'mmca.FiniteLossHook',
    'preemption': 'mmca.PreemptionHook',
    'resume': 'mmca.ResumeHook',
    'throughput': 'mmca.ThroughputHook',
}
SIMILAR = 0.6  # how much of two names must be equal for one to be taken for the other


def nearest(name: str, known: Iterable[str], similar: float = SIMILAR) -> str | None:
    """The known name that a misspelled one is most like, or None.

    Example:
        >>> nearest('out_channel', ['in_channels', 'out_channels'])
        'out_channels'
    """
    return next(iter(get_close_matches(name, known, 1, similar)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message on an unknown name: the nearest one, or all if they are few."""
    known = list(known)
    found = nearest(name, known)
    if found is not None:
        return f', did you mean {found}?'
    return f'; known are {", ".join(known)}' if 0 < len(known) <= 16 else ''


def walk(node: Any, key: str = '') -> Iterator[tuple[str, Any]]:
    """All values below a part of a config and itself, outer ones first.

    Args:
        node: a dict, list or value; or the config, whose own variables are left out.
        key: its place, as --cfg-options writes it.

    Yields:
        Keys and values.
    """
    if key:
        yield key, node
    else:
        node = {name: node[name] for name in RUN_KEYS if name in node}
    if isinstance(node, Mapping):
        children = node.items()
    elif isinstance(node, (list, tuple)):
        children = enumerate(node)
    else:
        return
    for name, child in children:
        yield from walk(child, f'{key}.{name}' if key else name)


def parameters(call: Callable) -> list[str]:
    """Names of the arguments that a class or function takes.

    Args:
        call: a function; or a class, whose base classes are asked too where it hands `**kwargs` on.

    Returns:
        The names, `self` excepted.
    """
    names: list[str] = []
    chain = [call]
    if inspect.isclass(call):
        chain = [vars(kind)['__init__'] for kind in call.mro()[:-1] if '__init__' in vars(kind)]
    for function in chain:
        found = inspect.signature(function).parameters.values()
        names += [p.name for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if not any(p.kind == p.VAR_KEYWORD for p in found):
            break
    return [name for name in dict.fromkeys(names) if name != 'self']


def registered(registry: Registry) -> dict[str, str]:
    """What a config may write as `type`: bare names -> names with the scope that they need."""
    names: dict[str, str] = {}
    root = registry
    while root.parent is not None:
        root = root.parent
    for child in root.children.values():
        names.update((name, f'{child.scope}.{name}') for name in child.module_dict)
    while registry is not None:
        names.update((name, name) for name in registry.module_dict)
        registry = registry.parent
    return names


def did_you_mean_type(name: str, registry: Registry) -> str:
    """The end of a message on an unknown type: the nearest one in a registry.

    Example: ', did you mean mmca.CAPVT?' for 'CAPVT'.
    """
    import mmca.registry  # noqa: F401

    registry.import_from_location()
    for child in registry.children.values():
        child.import_from_location()
    names = registered(registry)
    bare = name.rpartition('.')[2]
    found = bare if bare in names else nearest(bare, names)
    return '' if found is None else f', did you mean {names[found]}?'
