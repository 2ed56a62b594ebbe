"""Checks before anything starts: flags, data, classes, checkpoint.

Each failure is an `InputError` that names the value and the fix; what only looks wrong is a
warning on stderr. Data sets are built as the run would build them and are handed to it, so they
are read once; models are built without memory for their weights.
"""

from mmca.cli.preflight.check import Findings, check
from mmca.cli.preflight.every_image import read_every_image
from mmca.cli.preflight.flags import check_flags
from mmca.cli.preflight.handover import handed_over

__all__ = ['Findings', 'check', 'check_flags', 'handed_over', 'read_every_image']
