"""Load whole trained models, and third-party classifiers under mmpretrain's names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from mmca.checkpoint.loader import MIN_SHARE, Report, check_position_embedding, fit, match
from mmca.checkpoint.reader import Checkpoint
from mmca.errors import InputError

Use = Literal['test', 'resume', 'start']
TRAINING_ONLY = 'auxiliary_head.'
# Names of the original repositories and timm -> names of mmpretrain with mmca.NormPool as neck.
CLASSIFIER = {
    'head.weight': 'head.fc.weight',
    'head.bias': 'head.fc.bias',
    'norm.weight': 'neck.norm.weight',
    'norm.bias': 'neck.norm.bias',
}


def load_trained(
    model: nn.Module, checkpoint: Checkpoint, source: str | Path, use: Use = 'test'
) -> Report:
    """Load the weights of a whole trained model.

    Args:
        model: a detector, segmentor or classifier; unchanged after an error.
        checkpoint: from :func:`mmca.checkpoint.read_checkpoint`.
        source: the file, for messages.
        use: see :func:`check_trained`, which raises the errors.

    Returns:
        The comparison; warn about `missing` and `mismatched` tensors, which keep their values.
    """
    report = check_trained(checkpoint.tensors, model, source, use)
    weights = {name: checkpoint.tensors[name] for name in report.loaded}
    model.load_state_dict(weights, strict=False)
    return report


def check_trained(
    tensors: Mapping[str, Tensor], model: nn.Module, source: str | Path, use: Use = 'test'
) -> Report:
    """Compare the weights of a whole model with a model by names and shapes.

    Args:
        tensors: name -> tensor.
        model: the whole model, also on the meta device.
        source: the file, for messages.
        use: 'test' requires all parameters except auxiliary heads, 'resume' all; 'start', for a
            new training, half of the model's tensors, as any use does.

    Raises:
        InputError: required parameters are missing, or the position embeddings differ.
    """
    report = match(tensors, model)
    if report.share < MIN_SHARE:
        raise InputError(
            f'{source} does not match this model: {report.counts}; it contains fewer than '
            f"{MIN_SHARE:.0%} of the model's tensors. Load a backbone alone through "
            'model.backbone.init_cfg'
        )
    check_position_embedding(report, source, 'backbone.')
    absent = [*report.missing, *(item.partition(':')[0] for item in report.mismatched)]
    required = {name for name, _ in model.named_parameters()} if use != 'start' else ()
    random = [
        name
        for name in absent
        if name in required and not (use == 'test' and name.startswith(TRAINING_ONLY))
    ]
    if random:
        names = ', '.join(random[:4]) + (', ...' if len(random) > 4 else '')
        raise InputError(
            f'{source} does not match this model: {report.counts}; {names} would stay random'
        )
    return report


def classifier_state_dict(checkpoint: Checkpoint, model: nn.Module) -> dict[str, Tensor] | None:
    """Rename a third-party classifier, such as DeiT's release, for an ImageClassifier.

    The model is mmpretrain's, with a backbone of mmca and a LinearClsHead. Returns its state dict;
    None if the file is not a classifier with this backbone, in which nothing must be converted.
    """
    own = model.state_dict()
    head = {name: checkpoint.tensors.get(key) for key, name in CLASSIFIER.items() if name in own}
    if 'head.fc.weight' not in head or not hasattr(model, 'backbone'):
        return None
    if any(tensor is None or tensor.shape != own[name].shape for name, tensor in head.items()):
        return None
    state_dict, report = fit(checkpoint, model.backbone)
    if report.missing or report.mismatched or report.unexpected or report.converted:
        return None
    return {f'backbone.{name}': state_dict[name] for name in report.loaded} | head
