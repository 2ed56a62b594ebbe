"""Backbones with a choice of attention per stage. They need torch and mmengine."""

from mmca.backbones.cswin import CACSwin, CSwin, FLattenCSwin
from mmca.backbones.deit import CADeiT, DeiT
from mmca.backbones.pvt import CAPVT, PVT, FLattenPVT, FLattenPVTv2, PVTv2
from mmca.backbones.swin import CASwin, FLattenSwin, Swin

__all__ = [
    'CAPVT',
    'PVT',
    'CACSwin',
    'CADeiT',
    'CASwin',
    'CSwin',
    'DeiT',
    'FLattenCSwin',
    'FLattenPVT',
    'FLattenPVTv2',
    'FLattenSwin',
    'PVTv2',
    'Swin',
]
