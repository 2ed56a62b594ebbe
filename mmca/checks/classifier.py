"""Third-party classifiers, such as the releases of DeiT, under mmpretrain's names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

# Names of the original repositories and of timm: mmpretrain's, with mmca.NormPool as the neck.
OUTSIDE = {
    'head.weight': 'head.fc.weight',
    'head.bias': 'head.fc.bias',
    'norm.weight': 'neck.norm.weight',
    'norm.bias': 'neck.norm.bias',
}


def classifier_weights(path: str, model: nn.Module) -> dict[str, Tensor] | None:
    """Bring a third-party classifier's weights to the names of an ImageClassifier.

    Args:
        path: the checkpoint file, see :func:`mmca.checkpoint.read_checkpoint`.
        model: the classifier, with a backbone of mmca and a LinearClsHead; the meta device will
            do.

    Returns:
        The state dict of the model; None where the file is not a classifier of this backbone,
        such as one whose attention would have to start from it.

    Raises:
        InputError: the file cannot be read.
    """
    from mmca.backbones.base import Backbone
    from mmca.checkpoint import fit, read_checkpoint

    own = model.state_dict()
    checkpoint = read_checkpoint(path)
    outside = {
        name: checkpoint.tensors.get(third) for third, name in OUTSIDE.items() if name in own
    }
    if (
        not isinstance(getattr(model, 'backbone', None), Backbone)
        or 'head.fc.weight' not in outside
        or any(
            tensor is None or tensor.shape != own[name].shape for name, tensor in outside.items()
        )
    ):
        return None
    state_dict, report = fit(checkpoint, model.backbone)
    if report.missing or report.mismatched or report.converted:
        return None
    return {f'backbone.{name}': state_dict[name] for name in report.loaded} | outside


@contextmanager
def read_as(path: str, state_dict: dict[str, Tensor]) -> Iterator[None]:
    """Let mmengine find these weights where it would read a file.

    Args:
        path: the file, as the command line names it.
        state_dict: what it stands for.
    """
    from mmengine.runner import CheckpointLoader

    prefix = re.escape(path)
    CheckpointLoader.register_scheme(prefix, lambda filename, map_location: state_dict, force=True)
    try:
        yield
    finally:
        del CheckpointLoader._schemes[prefix]
