"""Checkpoints of whole models, before they are used."""

from __future__ import annotations

import shlex
from dataclasses import replace

from torch import nn

from mmca.checkpoint import check_trained, classifier_state_dict, find_weights
from mmca.errors import InputError, warn

SHOWN = 4  # names in a warning
STATE = ('optimizer', 'message_hub')  # what only a training checkpoint holds


def check_weights(content: dict, model: nn.Module, source: str, use: str) -> None:
    """Compare a checkpoint with the model that will take its weights.

    A third-party classifier is brought to the model's names in place.

    Args:
        content: of the file, as mmengine's runner has read it.
        model: the whole model.
        source: the file, for messages.
        use: 'test', 'resume' or 'start' (a part of the model's weights will do).

    Raises:
        InputError: the checkpoint is another model's, or lacks what it is used for.
    """
    found = find_weights(content)
    if found is None:
        raise InputError(f'{source} contains no weights')
    if use == 'test' and 'message_hub' not in content:  # mmengine wrote no such file
        renamed = classifier_state_dict(found, model)
        if renamed is not None:
            content.clear()
            content['state_dict'] = renamed
            return
    meta = content.get('meta')
    found = replace(found, meta=meta if isinstance(meta, dict) else {})
    report = check_trained(found, model, source, use)
    if use == 'resume' and any(key not in content for key in STATE):
        raise InputError(
            f'{source} contains only weights, no training state; instead of --resume, use '
            f'--cfg-options {shlex.quote(f"load_from={source}")}'
        )
    absent = [*report.missing, *report.mismatched]
    if absent:
        names = ', '.join(absent[:SHOWN]) + (', ...' if len(absent) > SHOWN else '')
        warn(f'{source}: {report.counts}; not loaded: {names}')
