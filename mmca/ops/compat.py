"""Differences between the torch versions that mmca supports, 2.1 and newer."""

import sys
from functools import partial

import torch

# Before 2.3 it is missing; there, torch.compile traces what eager mode runs.
is_compiling = getattr(torch.compiler, 'is_compiling', lambda: False)
# Before 2.7 it is missing, and exporting cannot be distinguished from compiling.
is_exporting = getattr(torch.compiler, 'is_exporting', is_compiling)
# Whether torch.compile may call operators; Python 3.9 cannot evaluate `Tensor | None` in a schema.
HAS_NODES = hasattr(torch.compiler, 'is_exporting') and sys.version_info >= (3, 10)
# Before 2.6 torch.load(weights_only=True) runs TorchScript (CVE-2025-32434).
HAS_SAFE_LOAD = torch.__version__ >= (2, 6)
try:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    math_attention = partial(sdpa_kernel, SDPBackend.MATH)
except ImportError:  # before 2.3
    math_attention = partial(
        torch.backends.cuda.sdp_kernel, enable_flash=False, enable_mem_efficient=False
    )
