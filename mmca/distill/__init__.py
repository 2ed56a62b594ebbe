"""Distill softmax attention into another attention without labels."""

from mmca.distill.calibration import calibrate
from mmca.distill.images import UnlabeledImages
from mmca.distill.model import Distiller
from mmca.distill.report import DistillationError, DistillationReportHook

__all__ = [
    'DistillationError',
    'DistillationReportHook',
    'Distiller',
    'UnlabeledImages',
    'calibrate',
]
