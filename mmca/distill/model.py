"""A student backbone beside its softmax teacher, and the losses between them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmca.errors import InputError
from mmca.layers import Block
from mmca.registry import MODELS

TRAINED = ('attention', 'blocks', 'all')
# (block's input, its grid, its output) by the block's path
Trace = dict[str, tuple[Tensor, tuple[int, int], Tensor]]


@MODELS.register_module()
class AttentionTransfer(BaseModel):
    """Make a backbone of circulant (or any) attention behave as its softmax teacher.

    First every block whose attention differs gets the teacher's input and learns its output, all
    blocks at once; then the student runs from end to end and learns the maps after every stage
    and the output. Both losses are squared errors relative to the teacher: of a block's update,
    and of a map.

    Args:
        student: config of a backbone of mmca, with the `init_cfg` that it starts from.
        teacher: config of the family's softmax backbone, with its weights in `init_cfg`.
        block_iters: iterations of the first part.
        train: what learns: 'attention' (with norm1 and the positional convolution of its block),
            'blocks' (those whose attention differs) or 'all'.
        sizes: (height, width) of the crops of the input that are taken in turn at random; none
            may be larger than the input.
        data_preprocessor: as in every mmengine model.

    Raises:
        InputError: an unknown `train`, or a student without a block that differs, unless
            everything learns from the maps alone: a DeiT without its teacher's class token.

    Example (in a config):
        model = dict(
            type='mmca.AttentionTransfer',
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
        self.changed = [
            path
            for path, block in _blocks(self.student)
            if type(block.attn) is not type(self.teacher.get_submodule(path).attn)
        ]
        if not self.changed and (train != 'all' or block_iters):
            raise InputError(
                'every block of the student has the attention of the teacher: only its maps are '
                "left to learn, with train='all', block_iters=0 (--train all --block-iters 0)"
            )
        self.ends = [_blocks(self.student, stage)[-1][0] for stage in _stages(self.student)]
        self._choose_parameters(train)

    def _choose_parameters(self, train: str) -> None:
        if train == 'all':
            return
        self.student.requires_grad_(False)
        for path in self.changed:
            block = self.student.get_submodule(path)
            if train == 'blocks':
                block.requires_grad_(True)
                continue
            for part in (block.attn, block.norm1, block.cpe):
                if part is not None:
                    part.requires_grad_(True)

    def train(self, mode: bool = True) -> 'AttentionTransfer':
        """Switch the mode; the teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(
        self, inputs: Tensor, data_samples: None = None, mode: str = 'tensor'
    ) -> dict[str, Tensor] | list[dict[str, float]] | tuple[Tensor, ...]:
        """Losses ('loss'), figures of each image ('predict') or the student's maps ('tensor').

        Args:
            inputs: (B, 3, H, W), normalized.
            data_samples: nothing.
            mode: as above.
        """
        if mode == 'tensor':
            return self.student(inputs)
        if mode == 'predict':
            return self._compare(inputs)
        return self._losses(self._crop(inputs))

    def _crop(self, inputs: Tensor) -> Tensor:
        height, width = self.sizes[int(torch.randint(len(self.sizes), ()))]
        return inputs[:, :, :height, :width]  # the views are random already

    def _losses(self, inputs: Tensor) -> dict[str, Tensor]:
        with torch.no_grad(), traced(self.teacher) as taught:
            target = self.teacher(inputs)
        if MessageHub.get_current_instance().get_info('iter', 0) < self.block_iters:
            losses = []
            for path in self.changed:
                x, hw_shape, y = taught[path]
                out = self.student.get_submodule(path)(x, hw_shape)
                losses.append(_relative(out - y, y - x))
            return {'loss_blocks': torch.stack(losses).mean() + self._touch_all()}
        with traced(self.student) as own:
            found = self.student(inputs)
        pairs = [(own[path][2], taught[path][2]) for path in self.ends]
        pairs += zip(found, target, strict=True)
        return {'loss_maps': torch.stack([_relative(a - b, b) for a, b in pairs]).mean()}

    def _touch_all(self) -> Tensor:
        """Zero, with a gradient for all: DistributedDataParallel waits for every parameter."""
        return sum(p.sum() for p in self.student.parameters() if p.requires_grad) * 0.0

    def _compare(self, inputs: Tensor) -> list[dict[str, float]]:
        with traced(self.teacher) as taught, traced(self.student) as own:
            target, found = self.teacher(inputs), self.student(inputs)
        pairs = {path: (own[path][2], taught[path][2]) for path in self.ends}
        pairs |= {f'output{i}': pair for i, pair in enumerate(zip(found, target, strict=True))}
        figures: list[dict[str, float]] = [{} for _ in inputs]
        for name, (a, b) in pairs.items():
            a, b = a.float().flatten(1), b.float().flatten(1)
            errors = (a - b).norm(dim=1) / b.norm(dim=1)
            cosines = torch.cosine_similarity(a, b)
            for row, error, cosine in zip(figures, errors.tolist(), cosines.tolist(), strict=True):
                row |= {f'{name}/error': error, f'{name}/cosine': cosine}
        return figures


def _relative(difference: Tensor, reference: Tensor) -> Tensor:
    """|difference|^2 / |reference|^2."""
    return difference.float().square().sum() / reference.float().square().sum()


def _stages(backbone: nn.Module) -> range:
    return range(backbone.num_stages)


def _blocks(backbone: nn.Module, stage: int | None = None) -> list[tuple[str, Block]]:
    """(path, block) of a backbone, or of one of its stages."""
    own = None
    if stage is not None:
        modules = (m for m in backbone.stage_modules(stage) if isinstance(m, nn.Module))
        own = {id(block) for module in modules for block in module.modules()}
    return [
        (path, module)
        for path, module in backbone.named_modules()
        if isinstance(module, Block) and (own is None or id(module) in own)
    ]


@contextmanager
def traced(backbone: nn.Module) -> Iterator[Trace]:
    """Record what goes into every block of a backbone and comes out, while the context lasts.

    A class token in front of the patches is left out.

    Args:
        backbone: one of `mmca.backbones`.

    Yields:
        Path of a block -> (input (B, N, C), (H, W), output (B, N, C)), filled by a forward pass.
    """
    trace: Trace = {}
    grid: list[tuple[int, int]] = []
    token = getattr(backbone, 'cls_token', None) is not None

    def note(path: str, args: tuple, out: Tensor) -> None:
        x, hw_shape = args
        if token and x.shape[1] == grid[0][0] * grid[0][1] + 1:
            x, hw_shape, out = x[:, 1:], grid[0], out[:, 1:]
        trace[path] = x, hw_shape, out

    handles = [
        block.register_forward_hook(lambda _, args, out, path=path: note(path, args, out))
        for path, block in _blocks(backbone)
    ]
    if token:
        handles.append(
            backbone.patch_embed.register_forward_hook(lambda _, args, out: grid.append(out[1]))
        )
    try:
        yield trace
    finally:
        for handle in handles:
            handle.remove()
