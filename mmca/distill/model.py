"""A student backbone, its softmax teacher, and the losses between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmca.analysis.maps import relative_errors, watch
from mmca.distill.calibration import calibrate, changed_blocks
from mmca.errors import InputError
from mmca.layers import Block
from mmca.registry import MODELS

TRAINED = ('attention', 'blocks', 'all')
# Path of a block -> its input (B, N, C), its grid (H, W), its output (B, N, C).
Trace = dict[str, tuple[Tensor, tuple[int, int], Tensor]]


@MODELS.register_module()
class Distiller(BaseModel):
    """Distill a softmax backbone into one with circulant (or any other) attention.

    First, each block whose attention differs receives the teacher's input and learns its output;
    then the student runs end to end and learns the maps after every stage and the outputs. Both
    losses are squared errors relative to the teacher: of a block's update, and of a map.

    Args:
        student: config of a backbone of mmca, with `init_cfg`.
        teacher: config of the family's softmax backbone, with its weights in `init_cfg`.
        block_iters: iterations of the first part.
        train: parameters to train: 'attention' (with norm1 and the positional convolution of its
            block), 'blocks' (those whose attention differs) or 'all'.
        sizes: (height, width) of random crops, none larger than the input.
        data_preprocessor: as in every mmengine model.

    Raises:
        InputError: an unknown `train`; or no block differs, unless train='all', block_iters=0.

    Example (in a config):
        model = dict(
            type='mmca.Distiller',
            student=dict(type='mmca.CADeiT', arch='tiny', init_cfg=weights),
            teacher=dict(type='mmca.DeiT', arch='tiny', init_cfg=weights),
        )
    """

    def __init__(
        self,
        student: dict,
        teacher: dict,
        block_iters: int = 0,
        train: str = 'blocks',
        sizes: Sequence[tuple[int, int]] = ((224, 224),),
        data_preprocessor: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor)
        if train not in TRAINED:
            raise InputError(f'train must be one of {", ".join(TRAINED)}, got {train!r}')
        self.student = MODELS.build(student)
        self.teacher = MODELS.build(teacher).requires_grad_(False)
        self.block_iters = block_iters
        self.sizes = list(sizes)
        blocks = {p: m for p, m in self.student.named_modules() if isinstance(m, Block)}
        self.changed = changed_blocks(self.student, self.teacher)
        if not self.changed and (train != 'all' or block_iters):
            raise InputError(
                'student and teacher have the same attention in every block; to train the student '
                "anyway, set train='all', block_iters=0 (--train all --block-iters 0)"
            )
        # The last block of every stage.
        self.ends = list({block.attn.spec.stage: path for path, block in blocks.items()}.values())
        if train != 'all':
            self.student.requires_grad_(False)
            for block in (blocks[path] for path in self.changed):
                rest = ('norm2', 'mlp') if train == 'attention' else ()
                for name, part in block.named_children():
                    part.requires_grad_(name not in rest)

    def calibrate(self, views: Sequence[Tensor]) -> None:
        """:func:`mmca.distill.calibrate` on views, uint8 and BGR, (3, H, W) each."""
        inputs = self.data_preprocessor({'inputs': list(views)})['inputs']
        calibrate(self.student, self.teacher, inputs)

    def train(self, mode: bool = True) -> Distiller:
        """Switch the student's mode; the teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(
        self, inputs: Tensor, data_samples: None = None, mode: str = 'tensor'
    ) -> dict[str, Tensor] | list[dict[str, float]] | tuple[Tensor, ...]:
        """Losses ('loss'), errors per image ('predict') or maps ('tensor') of (B, 3, H, W)."""
        if mode == 'tensor':
            return self.student(inputs)
        if mode == 'predict':
            return self._compare(inputs)
        height, width = self.sizes[int(torch.randint(len(self.sizes), ()))]
        inputs = inputs[:, :, :height, :width]  # the views are random already
        if MessageHub.get_current_instance().get_info('iter', 0) >= self.block_iters:
            losses = [_relative(a - b, b) for a, b in self._maps(inputs).values()]
            return {'loss_maps': torch.stack(losses).mean()}
        with torch.no_grad(), traced(self.teacher) as taught:
            self.teacher(inputs)
        losses = []
        for path in self.changed:
            x, hw_shape, y = taught[path]
            losses.append(_relative(self.student.get_submodule(path)(x, hw_shape) - y, y - x))
        # Zero, with a gradient for all: DistributedDataParallel waits for every parameter.
        unused = sum(p.sum() for p in self.student.parameters() if p.requires_grad) * 0.0
        return {'loss_blocks': torch.stack(losses).mean() + unused}

    def _maps(self, inputs: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """The student's and the teacher's map after every stage, and their outputs."""
        with torch.no_grad(), traced(self.teacher) as taught:
            target = self.teacher(inputs)
        with traced(self.student) as own:
            found = self.student(inputs)
        maps = {path: (own[path][2], taught[path][2]) for path in self.ends}
        outputs = enumerate(zip(found, target))
        return maps | {f'output{i}': pair for i, pair in outputs}

    def _compare(self, inputs: Tensor) -> list[dict[str, float]]:
        figures: list[dict[str, float]] = [{} for _ in inputs]
        for name, (a, b) in self._maps(inputs).items():
            errors = relative_errors(a, b).tolist()
            cosines = torch.cosine_similarity(a.float().flatten(1), b.float().flatten(1)).tolist()
            for row, error, cosine in zip(figures, errors, cosines):
                row |= {f'{name}/error': error, f'{name}/cosine': cosine}
        return figures


def _relative(difference: Tensor, reference: Tensor) -> Tensor:
    return difference.float().square().sum() / reference.float().square().sum()


@contextmanager
def traced(backbone: nn.Module) -> Iterator[Trace]:
    """Record inputs and outputs of all blocks in a forward pass, without the class token."""
    trace: Trace = {}

    def note(path: str, _: nn.Module, args: tuple, out: Tensor) -> None:
        x, (height, width) = args
        special = x.shape[1] - height * width
        trace[path] = x[:, special:], (height, width), out[:, special:]

    with watch(backbone, Block, note):
        yield trace
