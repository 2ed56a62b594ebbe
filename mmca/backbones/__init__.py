"""Backbones whose attention is chosen stage by stage. Needs torch and mmengine."""

from mmca.backbones.deit import CADeiT, DeiT
from mmca.backbones.pvt import CAPVT, PVT, FLattenPVT
from mmca.backbones.swin import CASwin, FLattenSwin, Swin

__all__ = ['CAPVT', 'PVT', 'CADeiT', 'CASwin', 'DeiT', 'FLattenPVT', 'FLattenSwin', 'Swin']
