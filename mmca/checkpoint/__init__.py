"""Read, map, convert and load checkpoints. Needs torch."""

from mmca.checkpoint.key_mapping import find_prefix, guess_family, to_original_names
from mmca.checkpoint.loader import Report, deit_options, fit, load_pretrained, match
from mmca.checkpoint.reader import Checkpoint, find_weights, read_checkpoint, read_state_dict
from mmca.checkpoint.trained import check_trained, classifier_state_dict, load_trained

__all__ = [
    'Checkpoint',
    'Report',
    'check_trained',
    'classifier_state_dict',
    'deit_options',
    'find_prefix',
    'find_weights',
    'fit',
    'guess_family',
    'load_pretrained',
    'load_trained',
    'match',
    'read_checkpoint',
    'read_state_dict',
    'to_original_names',
]
