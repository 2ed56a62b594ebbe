"""LayerNorm of tokens."""

from torch import Tensor, nn

from mmca.ops import layer_norm


class TokenNorm(nn.LayerNorm):
    """LayerNorm of tokens that keeps their memory layout, see :func:`mmca.ops.layer_norm`.

    Args:
        embed_dims: C.
        eps: added to the variance.

    Example:
        >>> import torch
        >>> tokens = torch.zeros(2, 8, 15).mT  # maps in memory
        >>> TokenNorm(8, eps=1e-6)(tokens).mT.is_contiguous()
        True
    """

    def __init__(self, embed_dims: int, eps: float) -> None:
        super().__init__(embed_dims, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        return layer_norm(x, self.weight, self.bias, self.eps)
