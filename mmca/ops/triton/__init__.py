"""Triton kernels of the ops. Importing `mmca.ops.triton.kernels` needs Triton."""
