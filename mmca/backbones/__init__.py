"""Hierarchical backbones whose attention is chosen stage by stage. Needs torch and mmengine."""

from mmca.backbones.pvt import CAPVT, PVT
from mmca.backbones.swin import CASwin, Swin

__all__ = ['CAPVT', 'PVT', 'CASwin', 'Swin']
