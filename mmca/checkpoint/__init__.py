"""Reading, mapping, converting and loading checkpoints. Needs torch."""

from mmca.checkpoint.key_mapping import find_prefix, guess_family, to_original_names
from mmca.checkpoint.loader import Report, fit, load_pretrained, match, starts_with
from mmca.checkpoint.trained import check_trained, classifier_state_dict
from mmca.checkpoint.reader import Checkpoint, find_weights, read_checkpoint, read_state_dict

__all__ = [
    'Checkpoint',
    'Report',
    'find_prefix',
    'find_weights',
    'fit',
    'guess_family',
    'load_pretrained',
    'match',
    'read_checkpoint',
    'read_state_dict',
    'starts_with',
    'to_original_names',
]
