"""Training the attention of a backbone to do what a softmax teacher's does, without labels."""

from mmca.transfer.images import UnlabeledImages
from mmca.transfer.metric import TransferError
from mmca.transfer.model import AttentionTransfer
from mmca.transfer.report import TransferReportHook

__all__ = ['AttentionTransfer', 'TransferError', 'TransferReportHook', 'UnlabeledImages']
