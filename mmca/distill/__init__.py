"""Training the attention of a backbone to do what a softmax teacher's does, without labels."""

from mmca.distill.images import UnlabeledImages
from mmca.distill.metric import TransferError
from mmca.distill.model import AttentionTransfer
from mmca.distill.report import TransferReportHook

__all__ = ['AttentionTransfer', 'TransferError', 'TransferReportHook', 'UnlabeledImages']
