"""Turn a graph into an ONNX file or a torch.export program, and run it."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Optional

import torch
from torch import Tensor

from mmca.errors import InputError
from mmca.export.graph import ExportGraph

# The content of a file, a function that runs it, and its ONNX opset.
ExportedFile = tuple[bytes, Callable[[Tensor], Sequence[Tensor]], Optional[int]]


@contextmanager
def quiet_export(size: tuple[int, int] | None) -> Iterator[None]:
    """Silence torch's warnings during an export, and turn its error into an InputError."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    except Exception as error:
        reason = str(error.__cause__ or error).strip().partition('\n')[0]
        advice = '' if size else '; a fixed size may work: add --size H W'
        raise InputError(f'torch cannot export this model: {reason}{advice}') from error
    finally:
        logging.disable(disabled)


def to_onnx(graph: ExportGraph, example: Tensor, dynamic: dict, metadata: dict) -> ExportedFile:
    """Export to ONNX, and load the file with ONNX Runtime on the CPU.

    `example` is (B, 3, H, W); `dynamic` names the axes without a fixed size, axis -> name.
    """
    import onnx
    import onnxruntime
    from onnxscript.optimizer import fold_constants, remove_unused_nodes

    translations = {}
    if graph.detector is not None:
        from mmca.export.box_ops import onnx_translations

        translations = onnx_translations()
    program = torch.onnx.export(
        graph,
        (example,),
        dynamo=True,
        verbose=False,
        optimize=False,  # takes minutes, and ONNX Runtime gains nothing
        input_names=['images'],
        output_names=list(graph.outputs),
        dynamic_shapes=(dynamic,) if dynamic else None,
        custom_translation_table=translations,
    )
    fold_constants(program.model)
    remove_unused_nodes(program.model)
    model = program.model_proto
    onnx.helper.set_model_props(model, metadata)
    content = model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3  # errors
    session = onnxruntime.InferenceSession(content, options, ['CPUExecutionProvider'])

    def run(images: Tensor) -> list[Tensor]:
        return [torch.from_numpy(one) for one in session.run(None, {'images': images.numpy()})]

    (opset,) = (entry.version for entry in model.opset_import if entry.domain in ('', 'ai.onnx'))
    return content, run, opset


def to_torch(graph: ExportGraph, example: Tensor, dynamic: dict, metadata: dict) -> ExportedFile:
    """Export a torch.export program and load it; arguments as for :func:`to_onnx`."""
    axes = {axis: torch.export.Dim.AUTO for axis in dynamic}
    with torch.no_grad():
        program = torch.export.export(
            graph, (example,), dynamic_shapes=(axes,) if axes else None, strict=False
        )
        # Inlines the blocks without autocast, whose symbolic numbers torch cannot save.
        program = program.run_decompositions({})
    buffer = io.BytesIO()
    extra = {f'{key}.txt': value for key, value in metadata.items()}
    torch.export.save(program, buffer, extra_files=extra)
    buffer.seek(0)
    run = torch.no_grad()(torch.export.load(buffer).module())
    return buffer.getvalue(), run, None
