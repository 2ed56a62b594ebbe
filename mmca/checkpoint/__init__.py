"""Read, map, convert and load checkpoints. Needs torch."""

from mmca.checkpoint.key_mapping import guess_family
from mmca.checkpoint.loader import (
    Report,
    check_trained,
    classifier_state_dict,
    deit_options,
    fit,
    load_pretrained,
    load_trained,
    match,
)
from mmca.checkpoint.reader import Checkpoint, find_weights, read_checkpoint

__all__ = [
    'Checkpoint',
    'Report',
    'check_trained',
    'classifier_state_dict',
    'deit_options',
    'find_weights',
    'fit',
    'guess_family',
    'load_pretrained',
    'load_trained',
    'match',
    'read_checkpoint',
]
