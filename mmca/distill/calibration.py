"""Calibrate a converted backbone on a few images with closed forms and searches, no gradients."""

from functools import partial

import torch
from torch import Tensor, nn

from mmca.analysis.maps import watch
from mmca.layers import Block

RIDGE = 1.0  # of the mean square of the hidden channels
AT_ONCE = 10  # images
Taught = tuple[nn.Module, Tensor, Tensor]  # the teacher's block, its input and its output


def changed_blocks(student: nn.Module, teacher: nn.Module) -> list[str]:
    """Paths of the student's blocks whose attention is not the teacher's."""
    blocks = ((path, m) for path, m in student.named_modules() if isinstance(m, Block))
    return [p for p, m in blocks if type(m.attn) is not type(teacher.get_submodule(p).attn)]


@torch.no_grad()
def calibrate(student: nn.Module, teacher: nn.Module, images: Tensor, ridge: float = RIDGE) -> None:
    """Calibrate the blocks of a student in place, to approximate its teacher on unlabeled images.

    Blocks are processed in order, on the outputs of the calibrated blocks before them. An attention
    that differs from the teacher's sets its own parameters (`Attention.calibrate`). Least squares
    then correct the MLP's second layer, so that the block's output approximates the teacher's.
    Blocks before the first changed one are not modified.

    Args:
        student: a backbone of `mmca.backbones` that has started from the teacher's weights.
        teacher: the softmax backbone.
        images: (B, 3, H, W), normalized. The inputs and outputs of all blocks are kept in memory:
            1 GB for 200 images of 224 x 224 in DeiT-T.
        ridge: pulls the correction toward zero; in units of the mean square of the hidden channels.

    Example:
        >>> from mmca.backbones import DeiT
        >>> arch = dict(embed_dims=8, depth=2, num_heads=2, mlp_ratio=2)
        >>> teacher, student = DeiT(arch), DeiT(arch, attn='K')
        >>> calibrate(student, teacher, torch.randn(4, 3, 64, 64))
    """
    if not (changed := changed_blocks(student, teacher)):
        return
    taught: dict[str, Taught] = {}

    def note(path: str, block: nn.Module, args: tuple, out: Tensor) -> None:
        taught[path] = block, args[0], out

    modes = student.training, teacher.training
    with watch(teacher.eval(), Block, note):
        teacher(images)
    paths = [path for path, module in student.named_modules() if isinstance(module, Block)]
    handles = []
    for path in paths[paths.index(changed[0]) :]:
        tune = partial(_tune, taught, path, path in changed, ridge)
        handles.append(student.get_submodule(path).register_forward_pre_hook(tune))
    try:
        student.eval()(images)
    finally:
        for handle in handles:
            handle.remove()
        student.train(modes[0])
        teacher.train(modes[1])


def _tune(
    taught: dict[str, Taught], path: str, changed: bool, ridge: float, block: Block, args: tuple
) -> None:
    """Calibrate a block just before it runs on all images."""
    x, hw_shape = args
    original, given, target = taught.pop(path)
    tokens = x.shape[1]  # the teacher may have a class token that the student lacks
    if changed:
        few = block.add_positions(x[:AT_ONCE], hw_shape)
        wanted = original.attend(original.norm1(given[:AT_ONCE]), hw_shape)[:, -tokens:]
        block.attn.calibrate(block.norm1(few), hw_shape, wanted)
    _correct(block, x, hw_shape, target[:, -tokens:], ridge)


def _correct(
    block: Block, x: Tensor, hw_shape: tuple[int, int], target: Tensor, ridge: float
) -> None:
    """Ridge regression of the block's error on the hidden layer of its MLP."""
    layer, hidden = block.mlp.fc2, []
    size = layer.in_features + 1
    square = layer.weight.new_zeros(size, size, dtype=torch.float64)
    right = layer.weight.new_zeros(size, layer.out_features, dtype=torch.float64)
    handle = layer.register_forward_pre_hook(lambda _, args: hidden.append(args[0].flatten(0, -2)))
    for part, wanted in zip(x.split(AT_ONCE), target.split(AT_ONCE)):
        error = (wanted - block.forward(part, hw_shape)).flatten(0, 1)  # without its hooks
        features = torch.cat(hidden)  # the MLP runs in chunks
        features = torch.cat([features, torch.ones_like(features[:, :1])], 1)
        square += features.mT @ features
        right += features.mT @ error
        hidden.clear()
    handle.remove()
    diagonal = square.diagonal()
    diagonal[:-1] += ridge * diagonal[:-1].mean()  # the bias is free
    change = torch.linalg.solve(square, right).to(layer.weight.dtype)
    layer.weight += change[:-1].mT
    layer.bias += change[-1]
