"""Checks before anything starts: flags, data, classes, checkpoint.

Each failure is an `InputError` that names the value and the fix; what only looks wrong is a
warning on stderr. Data sets are built as the run would build them and are handed to it, so they
are read once; models are built without memory for their weights.
"""

from mmca.checks.check import Findings, check
from mmca.checks.every_image import read_every_image
from mmca.checks.flags import check_flags
from mmca.checks.handover import handed_over
from mmca.checks.parts import build_parts
from mmca.checks.work_dir import check_work_dir

__all__ = [
    'Findings',
    'build_parts',
    'check',
    'check_flags',
    'check_work_dir',
    'handed_over',
    'read_every_image',
]
