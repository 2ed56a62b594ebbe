"""The tolerances of each dtype, defined once."""

import torch

# Largest error over the largest magnitude: of an attention, within what the dtype can hold, and of
# the parts of a block, which sum over channels in the dtype itself.
ATTENTION_TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 2e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 1.6e-2,
}
BLOCK_TOLERANCE = {torch.float32: 2e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
