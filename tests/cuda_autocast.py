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

# What our code and its gradients call of PyTorch's lists "CUDA Ops that can autocast to float16",
# "to float32" and "that promote to the widest input type", by the names in ATen.
OPS = {
    'half': """_convolution addmm baddbmm bmm conv1d conv2d convolution einsum linear matmul mm
        scaled_dot_product_attention""",
    'float': """cosine_similarity exp group_norm l1_loss layer_norm log log_softmax mse_loss norm
        pow reciprocal rsqrt softplus""",
    # Unless they are given a dtype.
    'with dtype': 'cumsum prod softmax sum linalg_vector_norm',
    'widest': 'addcdiv addcmul index_put scatter_add',
    # The CPU's autocast alone casts these.
    'not at all': """fft_rfft2 fft_irfft2 view_as_complex upsample_bilinear2d upsample_bicubic2d
        avg_pool2d adaptive_avg_pool2d""",
}


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


@contextmanager
def cuda_rules() -> Iterator[None]:
    """A context in which torch.autocast('cpu', ...) casts what torch.autocast('cuda', ...) does."""
    library = torch.library.Library('aten', 'IMPL')
    with catch_warnings():
        simplefilter('ignore')  # a kernel replaces another
        for kind, names in OPS.items():
            for name in names.split():
                packet = getattr(torch.ops.aten, name)
                for overload in packet.overloads():
                    if 'out' in overload or 'Dimname' in overload or 'names' in overload:
                        continue
                    run = partial(_run, getattr(packet, overload), kind)
                    kernel = torch.library.fallthrough_kernel if kind == 'not at all' else run
                    full = name if overload == 'default' else f'{name}.{overload}'
                    library.impl(full, kernel, 'AutocastCPU')
    yield
    del library  # which takes its kernels back
