"""A config's backbone with the weights of a checkpoint, for commands that look at its attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmca.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import Tensor

    from mmca.backbones.base import Backbone
    from mmca.checkpoint import Report


def backbone_settings(cfg: Config, config: str) -> dict:
    """The settings of a config's backbone, without its first weights.

    Args:
        cfg: the config.
        config: its name, for the message.

    Raises:
        InputError: its backbone is none of mmca's.
    """
    from mmengine.registry import MODELS

    from mmca.backbones.base import Backbone

    settings = dict(cfg.get('model', {}).get('backbone') or {})
    kind = settings.get('type')
    cls = MODELS.get(kind) if isinstance(kind, str) else kind
    if not (isinstance(cls, type) and issubclass(cls, Backbone)):
        raise InputError(f'{config}: model.backbone must be one of mmca, got type {kind!r}')
    settings.pop('init_cfg', None)
    return settings


def softmax_settings(settings: dict, checkpoint: str | None = None) -> dict:
    """The settings of the family's softmax original, with a class token if its weights have one.

    Args:
        settings: from :func:`backbone_settings`.
        checkpoint: the file of its weights, if they are to be loaded.
    """
    from mmengine.registry import MODELS

    from mmca.backbones import DeiT
    from mmca.checkpoint import deit_options, read_checkpoint

    dropped = ('attn_cfg', 'with_cls_token', 'out_type')
    original = {**{k: v for k, v in settings.items() if k not in dropped}, 'attn': 'S'}
    if issubclass(MODELS.get(settings['type']), DeiT):
        original |= deit_options(read_checkpoint(checkpoint)) if checkpoint else {'pos_embed': True}
    return original


def softmax_backbone(settings: dict, checkpoint: str) -> Backbone:
    """The family's softmax original with its weights, and its class token if the file has one.

    Args:
        settings: from :func:`backbone_settings`.
        checkpoint: the file.

    Returns:
        The backbone in evaluation mode.

    Raises:
        InputError: unreadable file, or not softmax weights of this backbone.
    """
    from mmengine.registry import MODELS

    from mmca.checkpoint import fit, load_pretrained, read_checkpoint

    settings = softmax_settings(settings, checkpoint)
    model = MODELS.build(settings)
    load_pretrained(model, checkpoint)
    _, report = fit(read_checkpoint(checkpoint), model)
    if absent := _absent(report):
        raise InputError(
            f'{checkpoint} lacks {absent[0]}: it holds no softmax weights of '
            f'{type(model).__name__}, or not all of them'
        )
    return model.eval()


def own_backbone(settings: dict, checkpoint: str) -> Backbone | None:
    """The config's backbone itself, if the file has weights that it was trained with.

    Args:
        settings: from :func:`backbone_settings`.
        checkpoint: the file.

    Returns:
        The backbone in evaluation mode; None if all of its attention is the family's softmax, or
        if the file lacks tensors of its attentions or has them for softmax.

    Raises:
        InputError: unreadable file.
    """
    from mmengine.registry import MODELS

    from mmca.checkpoint import fit, load_pretrained, read_checkpoint

    model = MODELS.build(settings)
    _, report = fit(read_checkpoint(checkpoint), model)
    if set(model.attn) == {'softmax'} or report.converted or _absent(report):
        return None
    load_pretrained(model, checkpoint)
    return model.eval()


def _absent(report: Report) -> list[str]:
    """The tensors of attentions that a file lacks."""
    return [name for name in (*report.missing, *report.mismatched) if '.attn.' in name]


def normalize(image: Tensor, cfg: Config) -> Tensor:
    """Normalize an image as the config's preprocessor does.

    Args:
        image: (3, H, W), BGR from 0 to 255.
        cfg: the config.

    Returns:
        (3, H, W), float32, RGB.

    Raises:
        InputError: the config has no mean or std.
    """
    import torch

    preprocessor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    if not (preprocessor.get('mean') and preprocessor.get('std')):
        raise InputError('model.data_preprocessor of the config must have mean and std')
    mean, std = (torch.tensor(preprocessor[key]).view(3, 1, 1) for key in ('mean', 'std'))
    return (image.flip(0).float() - mean) / std
