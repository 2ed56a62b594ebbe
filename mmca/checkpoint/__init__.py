"""Find, read, map, convert and load checkpoints. Needs torch."""

from mmca.checkpoint.download import download
from mmca.checkpoint.key_mapping import guess_family
from mmca.checkpoint.known_weights import KNOWN, KnownWeights, find_file
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
    'KNOWN',
    'Checkpoint',
    'KnownWeights',
    'Report',
    'check_trained',
    'classifier_state_dict',
    'deit_options',
    'download',
    'find_file',
    'find_weights',
    'fit',
    'guess_family',
    'load_pretrained',
    'load_trained',
    'match',
    'read_checkpoint',
]
