"""Predict with a trained detector or segmentor.

Example::

    from mmca.inference import Predictor
    predictor = Predictor('coco/maskrcnn_ca_pvt_s', 'weights.pth')
    result = predictor('image.jpg')
"""

from mmca.inference.files import Summary, predict_files
from mmca.inference.masks import Masks
from mmca.inference.predictor import Predictor
from mmca.inference.results import Detections, Segmentation

__all__ = ['Detections', 'Masks', 'Predictor', 'Segmentation', 'Summary', 'predict_files']
