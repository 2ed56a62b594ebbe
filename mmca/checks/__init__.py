"""Check data sets, weights and heads for mistakes that would otherwise go unnoticed.

Each failure raises an `InputError` that states the value and the fix. Mistakes that training
survives cause a warning with a count. Mistakes that fail with a clear message are not checked.
"""

from mmca.checks.classes import check_classes, check_normalization, check_trained_classes
from mmca.checks.data import Split, check_data, splits_of
from mmca.checks.images import check_every_image
from mmca.checks.labels import check_batch_labels
from mmca.checks.weights import check_weights

__all__ = [
    'Split',
    'check_batch_labels',
    'check_classes',
    'check_data',
    'check_every_image',
    'check_normalization',
    'check_trained_classes',
    'check_weights',
    'splits_of',
]
