"""Load a config's backbone, or its softmax original, from a checkpoint."""

from __future__ import annotations

import re

from mmengine.config import Config
from mmengine.registry import MODELS

from mmca.backbones import DeiT
from mmca.backbones.base import Backbone
from mmca.backbones.catalog import start_settings
from mmca.checkpoint import Checkpoint, Report, deit_options, fit, load_pretrained, read_checkpoint
from mmca.errors import InputError

ATTENTION = re.compile(r'\.attns?\.|\.\d+\.(qkv|proj)\.')  # in CSwin without `attn`
OWN = ('attn_cfg', 'with_cls_token', 'pos_embed', 'out_type')  # left out of the original's settings


def backbone_settings(cfg: Config) -> dict:
    """The settings of a config's backbone, which must be mmca's, without `init_cfg`."""
    settings = dict(cfg.get('model', {}).get('backbone') or {})
    cls = MODELS.get(kind) if isinstance(kind := settings.get('type'), str) else None
    if not (isinstance(cls, type) and issubclass(cls, Backbone)):
        raise InputError(f'model.backbone must be a backbone of mmca, got type {kind!r}')
    settings.pop('init_cfg', None)
    return settings


def softmax_settings(settings: dict, checkpoint: Checkpoint | None = None) -> dict:
    """The settings of the softmax original, with the class token and positions of its file."""
    original = {key: value for key, value in settings.items() if key not in OWN}
    is_deit = issubclass(MODELS.get(settings['type']), DeiT)
    found = deit_options(checkpoint) if checkpoint and is_deit else {}
    return {**original, 'attn': 'S', **found}


def softmax_backbone(settings: dict, path: str) -> Backbone:
    """Load the family's softmax original, in evaluation mode.

    Raises:
        InputError: unreadable file, or not softmax weights of this backbone.
    """
    checkpoint = read_checkpoint(path)
    model = MODELS.build(softmax_settings(settings, checkpoint))
    load_pretrained(model, path)
    if absent := _absent(fit(checkpoint, model)[1]):
        raise InputError(
            f'{path} lacks {absent[0]}: it needs all softmax weights of {type(model).__name__}'
        )
    return model.eval()


def converted_backbone(settings: dict, path: str) -> Backbone:
    """Load a backbone that starts from softmax weights, in evaluation mode.

    Its options come from :func:`mmca.backbones.catalog.start_settings`.
    """
    model = MODELS.build(start_settings(settings, read_checkpoint(path)))
    load_pretrained(model, path)
    return model.eval()


def own_backbone(settings: dict, path: str) -> Backbone | None:
    """Load the config's backbone with weights trained with its attention, in evaluation mode.

    Returns:
        None if all of its attention is softmax, or if the file has softmax weights instead or
        lacks some.
    """
    checkpoint = read_checkpoint(path)
    model = MODELS.build(start_settings(settings, checkpoint))
    report = fit(checkpoint, model)[1]
    if set(model.attn) == {'softmax'} or report.converted or _absent(report):
        return None
    load_pretrained(model, path)
    return model.eval()


def _absent(report: Report) -> list[str]:
    return [name for name in (*report.missing, *report.mismatched) if ATTENTION.search(name)]
