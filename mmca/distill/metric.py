"""How far a student's maps are from its teacher's."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric

from mmca.registry import METRICS


@METRICS.register_module()
class TransferError(BaseMetric):
    """Means over images of what `AttentionTransfer` predicts.

    Results: 'NAME/error', the relative error of a map, and 'NAME/cosine', the cosine between the
    maps, for every stage and for the output, and both over all of these under 'mean'.
    """

    default_prefix = None

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the figures of the images of a batch."""
        self.results.extend(data_samples)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Average them."""
        names = results[0].keys()
        means = {n: torch.tensor([r[n] for r in results]).mean().item() for n in names}
        for kind in ('error', 'cosine'):
            values = [value for name, value in means.items() if name.endswith(kind)]
            means[f'mean/{kind}'] = sum(values) / len(values)
        return means
