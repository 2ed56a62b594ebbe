"""Checks of a run's data sets, weights and heads for what would silently go wrong.

Each failure is an `InputError` that names the value and the fix; what training survives is a
warning with a count. What fails by itself with a clear message is not checked.
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
