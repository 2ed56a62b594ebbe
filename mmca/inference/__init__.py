"""Prediction with a trained detector or segmentor, and its export.

Example::

    from mmca.inference import Predictor
    predictor = Predictor('coco/maskrcnn_ca_pvt_s', 'weights.pth')
    result = predictor('image.jpg')
"""

from mmca.export.model import Comparison, ExportReport, export_model
from mmca.inference.predictor import Predictor
from mmca.inference.results import Detections, Segmentation

__all__ = [
    'Comparison',
    'Detections',
    'ExportReport',
    'Predictor',
    'Segmentation',
    'export_model',
]
