"""The circulant attention layer."""

from typing import Literal

import torch
from torch import Tensor, nn

from mmca.errors import InputError
from mmca.ops import (
    channels_first,
    circulant_attention,
    circulant_self_attention,
    gated_projection,
)
from mmca.ops.circulant import Scale, check_tokens, logit_scale


class CirculantAttention(nn.Module):
    """Circulant attention with token reweighting, O(N log N) (arXiv 2512.21542, section 4).

        O = softmax(a) (*) V,  a = scale * Q (*) K,  y = (O . SiLU(x W_T)) W_proj + b_proj

    A drop-in for self-attention on a token grid; it needs torch only. Parameter names are those
    of the authors' CA-DeiT release: `qkv.weight`, `gate.0.weight`, `gate.0.bias`,
    `proj.weight`, `proj.bias`.

    Args:
        embed_dims: C.
        head_dim: d, must divide C. The paper's default is 1.
        reweighting: where the gate SiLU(x W_T) acts: 'post' on the attention's output,
            'pre' on V, None nowhere (no gate parameters).
        scale: factor of the logits: 'sqrt' (the released code), 'paper' or a number, see
            :func:`mmca.ops.circulant.logit_scale`.
        proj_drop: dropout rate after the projection.

    Raises:
        InputError: head_dim does not divide embed_dims, or an unknown reweighting or scale.
    """

    channels_first = True  # the layout of tokens in memory that costs no copy

    def __init__(
        self,
        embed_dims: int,
        head_dim: int = 1,
        reweighting: Literal['post', 'pre'] | None = 'post',
        scale: Scale = 'sqrt',
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        if head_dim < 1 or embed_dims % head_dim:
            raise InputError(
                f'head_dim must divide embed_dims, got head_dim={head_dim}, embed_dims={embed_dims}'
            )
        if reweighting not in ('post', 'pre', None):
            raise InputError(f"reweighting must be 'post', 'pre' or None, got {reweighting!r}")
        logit_scale(scale, 1, 1)  # an unknown scale is refused here, not in the first forward
        self.embed_dims = embed_dims
        self.head_dim = head_dim
        self.reweighting = reweighting
        self.scale = scale
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims, bias=False)
        self.gate = (
            nn.Sequential(nn.Linear(embed_dims, embed_dims), nn.SiLU()) if reweighting else None
        )
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """Attend over the whole grid.

        Args:
            x: (B, N, C) with N = H * W.
            hw_shape: (H, W).

        Returns:
            (B, N, C).

        Raises:
            InputError: H * W != N, or C is not embed_dims.
        """
        check_tokens(x, hw_shape)
        if x.shape[2] != self.embed_dims:
            raise InputError(f'expected C={self.embed_dims} channels, got {tuple(x.shape)}')
        x = channels_first(x).mT  # once, for the transform, the gate and their gradients
        args = (hw_shape, self.head_dim, self.scale)
        if self.reweighting == 'post':
            out = circulant_self_attention(x, self.qkv.weight, *args)
            linears = (self.gate[0].weight, self.gate[0].bias, self.proj.weight, self.proj.bias)
            return self.proj_drop(gated_projection(out, x, *linears))
        if self.reweighting == 'pre':
            q, k, v = self.project(x)
            out = circulant_attention(q, k, v * self.gate(x), *args)
        else:
            out = circulant_self_attention(x, self.qkv.weight, *args)
        return self.proj_drop(self.proj(out))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v of the tokens, (B, N, C) -> three times (B, N, C)."""
        weight = self.qkv.weight.expand(len(x), -1, -1)
        # The transforms run over the grid, so the projection writes channels first: (B, 3C, N).
        return torch.bmm(weight, x.mT).mT.chunk(3, dim=2)

    def extra_repr(self) -> str:
        return f'head_dim={self.head_dim}, reweighting={self.reweighting!r}, scale={self.scale!r}'
