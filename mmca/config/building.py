"""Why something that a config names could not be built: the key, the value, the remedy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from traceback import walk_tb
from types import FrameType
from typing import TYPE_CHECKING, Any

from mmca.config.names import did_you_mean, did_you_mean_type, parameters, walk
from mmca.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config

UNKNOWN_TYPE = re.compile(r"'?(\S+) is not in the .+? registry")
UNKNOWN_ARGUMENT = re.compile(r"got an unexpected keyword argument '(\w+)'")


def explain_building(error: BaseException, cfg: Config) -> str | None:
    """Say in one line why mmengine could not build a part of a config.

    The frames of the exception tell which part it was.

    Args:
        error: what was raised.
        cfg: the config, as the run has it.

    Returns:
        The line, or None where nothing of the config was being built.
    """
    builders = [frame for frame, _ in walk_tb(error.__traceback__) if _builds(frame)]
    for frame in reversed(builders):
        key = _find_key(cfg, frame.f_locals['cfg'])
        if key is not None:
            return f'{key}: {_reason(error, builders[-1])}'
    return None


def _builds(frame: FrameType) -> bool:
    from mmengine.registry import build_functions

    # Its functions have the part's config as `cfg`, the class as `obj_cls` or `scheduler_cls`.
    return frame.f_globals is vars(build_functions) and 'cfg' in frame.f_locals


def _find_key(cfg: Config, part: Any) -> str | None:
    """Find the place of a part, to which the libraries may have added arguments meanwhile."""
    if not isinstance(part, Mapping):
        return next((key for key, value in walk(cfg) if value == part), None)
    best, most = None, 0
    for key, value in walk(cfg):
        if isinstance(value, Mapping) and value and value.get('type') == part.get('type'):
            equal = sum(part.get(name) == item for name, item in value.items())
            if equal > most and (equal == len(value) or 'type' in value):
                best, most = key, equal
    return best


def _reason(error: BaseException, frame: FrameType) -> str:
    text = ' '.join(str(error).split())
    part, registry = frame.f_locals['cfg'], frame.f_locals['registry']
    kind = frame.f_locals.get('obj_cls') or frame.f_locals.get('scheduler_cls')
    if isinstance(error, InputError):
        return text
    if not isinstance(part, Mapping):
        return f'must be a dict with a type, got {part!r}'
    if 'must contain the key "type"' in text:
        return 'it has no type'
    if found := UNKNOWN_TYPE.search(text):
        return f'unknown type {found[1]!r}{did_you_mean_type(found[1], registry)}'
    if (found := UNKNOWN_ARGUMENT.search(text)) and found[1] in part:
        known = parameters(kind)
        return f'{kind.__name__} takes no argument {found[1]!r}{did_you_mean(found[1], known)}'
    last, line = list(walk_tb(error.__traceback__))[-1]
    where = f'{Path(last.f_code.co_filename).name}, line {line}'
    return f'{getattr(kind, "__name__", kind)} fails with {type(error).__name__}: {text} ({where})'
