"""Modules between a single-map backbone and a head. Needs torch and mmengine."""

from mmca.necks.feature_pyramid import SimpleFeaturePyramid
from mmca.necks.norm_pool import NormPool

__all__ = ['NormPool', 'SimpleFeaturePyramid']
