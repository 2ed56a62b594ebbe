"""Strings where a class or function says that it takes numbers: lr='1e-4'."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from importlib import import_module
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any

from mmca.config.names import walk
from mmca.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config


def check_numbers(cfg: Config, library: str) -> None:
    """Refuse strings where the annotations of what is built allow numbers alone.

    Args:
        cfg: the config.
        library: 'mmdet', 'mmseg' or 'mmpretrain', whose registries are searched.

    Raises:
        InputError: the first such string.
    """
    from torch.nn.utils import clip_grad_norm_

    registries = _registries(library)
    for key, node in walk(cfg):
        if not isinstance(node, Mapping):
            continue
        texts = [name for name, value in node.items() if isinstance(value, str)]
        if not texts:
            continue
        kind = (
            clip_grad_norm_ if key.endswith('.clip_grad') else _find(node.get('type'), registries)
        )
        hints = {} if kind is None else _hints(kind)
        for name in texts:
            if _numbers_only(hints.get(name)):
                raise InputError(
                    f'{key}.{name}={node[name]!r} is a string, {kind.__name__} needs a number: '
                    'write it without quotes'
                )


def _registries(library: str) -> list[Any]:
    from mmengine.registry import Registry

    values = vars(import_module(f'{library}.registry')).values()
    return [value for value in values if isinstance(value, Registry)]


def _find(kind: Any, registries: list[Any]) -> Callable | None:
    if isinstance(kind, str):
        try:
            kind = next(filter(None, (registry.get(kind) for registry in registries)), None)
        except ImportError:  # of what the library needs for some types alone
            return None
    return kind if callable(kind) else None


def _hints(kind: Callable) -> dict[str, Any]:
    functions = [kind]
    if inspect.isclass(kind):
        functions = [
            vars(base)['__init__'] for base in kind.mro()[::-1] if '__init__' in vars(base)
        ]
    hints: dict[str, Any] = {}
    for function in functions:
        try:
            hints.update(typing.get_type_hints(function))
        except (AttributeError, NameError, TypeError):  # annotations need not be evaluable
            continue
    return hints


def _numbers_only(hint: Any) -> bool:
    """Whether an annotation allows int or float and nothing that a string could be."""
    union = typing.get_origin(hint) in (typing.Union, UnionType)
    kinds = set(typing.get_args(hint)) if union else {hint}
    others = {getattr(kind, '__name__', '') for kind in kinds - {int, float, bool, NoneType}}
    return bool(kinds & {int, float}) and others <= {'Tensor'}
