"""How a graph becomes an ONNX file or a torch.export program, and what runs that."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from mmca.errors import InputError
from mmca.export.graph import ExportGraph

Runner = Callable[[Tensor], Sequence[Tensor]]


class ExportedFile(NamedTuple):
    """A file's content, what runs it, and its ONNX opset."""

    content: bytes
    run: Runner
    opset: int | None


@contextmanager
def explained(size: tuple[int, int] | None) -> Iterator[None]:
    """Torch's reason in one line where it cannot export a model, and none of its warnings."""
    loggers = [logging.getLogger(name) for name in ('torch.onnx', 'torch.export', 'onnxscript')]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        reason = str(error.__cause__ or error).strip().partition('\n')[0]
        advice = '' if size else '; with a fixed size it may work: add --size H W'
        raise InputError(f'torch cannot export this model: {reason}{advice}') from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def to_onnx(graph: ExportGraph, example: Tensor, dynamic: dict, metadata: dict) -> ExportedFile:
    """Export to ONNX, with ONNX Runtime on the CPU to run it.

    Args:
        graph: in evaluation mode.
        example: (B, 3, H, W).
        dynamic: axis -> name, of those whose size is open.
        metadata: what the file tells of itself, see :mod:`mmca.export.model`.

    Returns:
        The file, loaded again.
    """
    import onnx
    import onnxruntime
    from onnxscript.optimizer import fold_constants, remove_unused_nodes

    program = torch.onnx.export(
        graph,
        (example,),
        dynamo=True,
        verbose=False,
        optimize=False,  # its rewriting takes minutes, and ONNX Runtime gains nothing
        input_names=['images'],
        output_names=list(graph.outputs),
        dynamic_shapes=(dynamic,) if dynamic else None,
    )
    fold_constants(program.model)
    remove_unused_nodes(program.model)
    model = program.model_proto
    onnx.helper.set_model_props(model, metadata)
    content = model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(content, options, ['CPUExecutionProvider'])

    def run(images: Tensor) -> list[Tensor]:
        return [torch.from_numpy(one) for one in session.run(None, {'images': images.numpy()})]

    (opset,) = (entry.version for entry in model.opset_import if entry.domain in ('', 'ai.onnx'))
    return ExportedFile(content, run, opset)


def to_torch(graph: ExportGraph, example: Tensor, dynamic: dict, metadata: dict) -> ExportedFile:
    """Export a torch.export program.

    Args:
        graph, example, dynamic, metadata: as for :func:`to_onnx`.

    Returns:
        The file, loaded again.
    """
    axes = {axis: torch.export.Dim.AUTO for axis in dynamic}
    with torch.no_grad():
        program = torch.export.export(
            graph, (example,), dynamic_shapes=(axes,) if axes else None, strict=False
        )
        # Inlines the blocks without autocast, whose symbolic numbers torch cannot write.
        program = program.run_decompositions({})
    buffer = io.BytesIO()
    extra = {f'{key}.txt': value for key, value in metadata.items()}
    torch.export.save(program, buffer, extra_files=extra)
    buffer.seek(0)
    loaded = torch.export.load(buffer).module()

    @torch.no_grad()
    def run(images: Tensor) -> Sequence[Tensor]:
        try:
            return loaded(images)
        except AssertionError as error:
            raise InputError(
                f'a program of this model takes no images of {images.shape[2]} x '
                f'{images.shape[3]} ({str(error).partition(chr(10))[0]}): name larger --images, '
                'or add --size H W'
            ) from error

    return ExportedFile(buffer.getvalue(), run, None)
