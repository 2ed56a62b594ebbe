"""CUDA's autocast, imitated on the CPU: what it casts, and what it leaves as it is.

The two differ in what they widen: the CPU's autocast computes FFTs and `view_as_complex` in
float32, CUDA's does not, and CUDA's has a longer list of operators that run in float32.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, reduce
from warnings import catch_warnings, simplefilter

import torch
from torch import Tensor

# "CUDA Ops that can autocast to float16" of PyTorch's documentation, by their names in ATen.
HALF = """_convolution _convolution.deprecated addbmm addmm addmv addr baddbmm bmm chain_matmul
conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d.input conv_transpose3d.input
convolution einsum linalg_multi_dot linalg_vecdot linear matmul mm mv prelu
scaled_dot_product_attention _scaled_dot_product_flash_attention"""
# These compute in float32 and return it, unless they are given a dtype.
WITH_DTYPE = """cumprod cumsum log_softmax.int prod prod.dim_int softmax.int sum sum.dim_IntList
linalg_vector_norm"""
# These take several tensors and compute in the widest dtype of them.
WIDEST = """addcdiv addcmul atan2 bilinear cross dot grid_sampler index_put scatter_add tensordot
vdot"""
KINDS = {
    name: kind
    for kind, names in (('half', HALF), ('with dtype', WITH_DTYPE), ('widest', WIDEST))
    for name in names.split()
}
# Kernels of other devices, and recurrent cells.
SKIPPED = ('cudnn', '_thnn', '_cell')


def _is_cast(value: object) -> bool:
    is_floating = isinstance(value, Tensor) and value.is_floating_point()
    return is_floating and value.dtype != torch.float64


def _cast(value: object, dtype: torch.dtype) -> object:
    if isinstance(value, (list, tuple)):
        return type(value)(_cast(item, dtype) for item in value)
    return value.to(dtype) if _is_cast(value) else value


def _run(op: Callable, kind: str, *args: object, **kwargs: object) -> object:
    dtype = torch.float32
    if kind == 'half':
        dtype = torch.get_autocast_dtype('cpu')
    elif kind == 'widest':
        dtypes = (x.dtype for x in args if _is_cast(x))
        dtype = reduce(torch.promote_types, dtypes, torch.get_autocast_dtype('cpu'))
    with torch.autocast('cpu', enabled=False):
        if kind == 'with dtype' and _is_cast(args[0]):
            return op(*args, **{**kwargs, 'dtype': kwargs.get('dtype') or dtype})
        return op(*_cast(args, dtype), **{key: _cast(x, dtype) for key, x in kwargs.items()})


def _has_kernel(name: str, key: str) -> bool:
    try:
        return torch._C._dispatch_has_kernel_for_dispatch_key(name, key)
    except RuntimeError:  # a name without a schema
        return False


@contextmanager
def cuda_rules() -> Iterator[None]:
    """A context in which torch.autocast('cpu', ...) casts what torch.autocast('cuda', ...) does.

    Which operators the two know is asked of torch's dispatcher.
    """
    library = torch.library.Library('aten', 'IMPL')
    try:
        with catch_warnings():
            simplefilter('ignore')
            for full in torch._C._dispatch_get_all_op_names():
                name = full.removeprefix('aten::')
                if name == full or any(word in name for word in SKIPPED):
                    continue
                if _has_kernel(full, 'AutocastCUDA'):
                    packet, _, overload = name.partition('.')
                    op = getattr(getattr(torch.ops.aten, packet), overload or 'default')
                    library.impl(name, partial(_run, op, KINDS.get(name, 'float')), 'AutocastCPU')
                elif _has_kernel(full, 'AutocastCPU'):
                    library.impl(name, torch.library.fallthrough_kernel, 'AutocastCPU')
        yield
    finally:
        library._destroy()
