"""Whether backbone, neck and heads fit together: a forward pass of shapes, without numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mmca.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import ConfigDict
    from torch import Tensor, nn

SIZE = 256  # of the image, in pixels


def check_channels(cfg: ConfigDict, model: nn.Module) -> None:
    """Compare the channels that each part gives with those that the next one expects.

    Only where a part refuses its input is its `in_channels` compared. What cannot run on the meta
    device is not checked.

    Args:
        cfg: the model's config.
        model: the model, on the meta device.

    Raises:
        InputError: the first part that does not fit.
    """
    import torch

    backbone = getattr(model, 'backbone', None)
    features = _run(backbone, torch.empty(1, 3, SIZE, SIZE, device='meta'))
    source = 'model.backbone'
    if features is not None and getattr(model, 'neck', None) is not None:
        found = _run(model.neck, features)
        neck = cfg.neck[0] if isinstance(cfg.neck, (list, tuple)) else cfg.neck
        if found is None:
            _compare('model.neck', neck, features, source)
        features, source = found, 'model.neck'
    if features is None:
        return
    for key, head, module in _heads(cfg, model):
        if _run(module, features) is None:
            _compare(key, head, features, source)
    roi = cfg.get('roi_head') or {}
    for name in ('bbox', 'mask'):
        extractor = roi.get(f'{name}_roi_extractor')
        if isinstance(extractor, dict) and isinstance(extractor.get('out_channels'), int):
            given, key = extractor.out_channels, f'model.roi_head.{name}_roi_extractor'
            _same(f'{key}.out_channels', given, features[0].shape[1], source)
            for head_key, head in _each(f'model.roi_head.{name}_head', roi.get(f'{name}_head')):
                if 'in_channels' in head:
                    _same(f'{head_key}.in_channels', head.in_channels, given, key)


def _run(module: nn.Module | None, inputs: Any) -> Sequence[Tensor] | None:
    import torch

    try:
        with torch.no_grad():
            outputs = module.eval()(inputs)
    except Exception:  # whatever it is, the run will tell it
        return None
    return outputs if isinstance(outputs, (list, tuple)) else [outputs]


def _heads(cfg: ConfigDict, model: nn.Module) -> Iterator[tuple[str, ConfigDict, nn.Module]]:
    for name in ('rpn_head', 'bbox_head', 'decode_head', 'auxiliary_head', 'head'):
        module = getattr(model, name, None)
        parts = list(_each(f'model.{name}', cfg.get(name)))
        modules = [module] if len(parts) == 1 and not hasattr(module, '__len__') else module
        if module is not None and hasattr(modules, '__len__') and len(modules) == len(parts):
            for (key, head), part in zip(parts, modules, strict=True):
                yield key, head, part


def _each(key: str, heads: Any) -> Iterator[tuple[str, ConfigDict]]:
    if isinstance(heads, (list, tuple)):
        yield from ((f'{key}.{index}', head) for index, head in enumerate(heads))
    elif heads:
        yield key, heads


def _compare(key: str, part: ConfigDict, features: Sequence[Tensor], source: str) -> None:
    """Compare a part's `in_channels`, a number or one for each map, with the maps it takes."""
    wanted = part.get('in_channels')
    given = [feature.shape[1] for feature in features]
    if isinstance(wanted, (list, tuple)):
        index = part.get('in_index')
        given = [given[i] for i in index] if index and max(index) < len(given) else given
        _same(f'{key}.in_channels', list(wanted), given, source)
    elif isinstance(wanted, int):
        _same(f'{key}.in_channels', wanted, given[part.get('in_index') or 0], source)


def _same(key: str, wanted: Any, given: Any, source: str) -> None:
    if wanted != given:
        option = str(given).replace(' ', '')
        raise InputError(
            f'{key}={wanted}, but {source} gives {given} channels; '
            f'if that is right: --cfg-options {key}="{option}"'
        )
