"""What differs between the torch versions that mmca runs on, 2.1 and newer."""

import torch

# Before 2.3 it is missing; there, torch.compile traces what eager mode runs.
is_compiling = getattr(torch.compiler, 'is_compiling', lambda: False)
# Before 2.7 it is missing, and exporting cannot be distinguished from compiling.
is_exporting = getattr(torch.compiler, 'is_exporting', is_compiling)
HAS_NODES = hasattr(torch.compiler, 'is_exporting')  # whether torch.compile may call operators
