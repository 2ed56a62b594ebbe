"""Export a trained model to ONNX or torch.export, and compare it with PyTorch.

Example::

    from mmca.export import export_model
    from mmca.inference import Predictor
    predictor = Predictor('camvid/fpn_ca_pvt_t', 'weights.pth', device='cpu')
    report = export_model(predictor, 'camvid.onnx')
"""

from mmca.export.model import Comparison, ExportReport, export_model

__all__ = ['Comparison', 'ExportReport', 'export_model']
