"""What plain backbones need between themselves and a head. Needs torch and mmengine."""

from mmca.necks.feature_pyramid import SimpleFeaturePyramid

__all__ = ['SimpleFeaturePyramid']
