"""The circulant attention layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from mmca.errors import InputError
from mmca.layers.attention import Attention, StageSpec, register_attention
from mmca.ops import circulant_attention, circulant_kernel, circulant_self_attention
from mmca.ops.chunks import in_chunks
from mmca.ops.circulant import Scale, logit_scale
from mmca.ops.dft import dft_macs, matrix_macs
from mmca.ops.layout import check_tokens

GATE_ONE = 1.2784645427610738  # SiLU(GATE_ONE) = 1


@register_attention('circulant', letter='C')
class CirculantAttention(Attention):
    """Circulant attention with token reweighting, O(N log N) (arXiv 2512.21542, section 4).

        O = softmax(a) (*) V,  a = scale * Q (*) K,  y = (O . SiLU(x W_T)) W_proj + b_proj

    A drop-in replacement for self-attention on a token grid. Parameter names follow the
    authors' CA-DeiT release: `qkv.weight`, `gate.0.weight`, `gate.0.bias`, `proj.weight`,
    `proj.bias`.

    Args:
        embed_dims: C.
        head_dim: d, must divide C. The paper's default is 1. In a backbone, 'softmax' selects the
            head dimension of the family's softmax attention at the same place. With
            `scale='paper'`, the kernel is then the projection of that attention.
        reweighting: where the gate SiLU(x W_T) acts: 'post' on the attention's output,
            'pre' on V, None for no gate.
        scale: factor of the logits: 'sqrt' (the released code), 'paper' or a number, see
            :func:`mmca.ops.circulant.logit_scale`.
        proj_drop: dropout rate after the projection.

    Raises:
        InputError: head_dim does not divide embed_dims, or an unknown reweighting or scale.

    Example:
        >>> import torch
        >>> from mmca.layers import CirculantAttention
        >>> attn = CirculantAttention(embed_dims=64)
        >>> attn(torch.randn(2, 50 * 76, 64), hw_shape=(50, 76)).shape
        torch.Size([2, 3800, 64])
    """

    uses_cpe = True
    has_kernel = True
    signature: ClassVar[str] = 'gate.0.weight'
    replaces_softmax = True
    softmax_options: ClassVar[dict[str, str]] = {'head_dim': 'softmax', 'scale': 'paper'}
    method: ClassVar[str] = 'CA-'

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
        logit_scale(scale, 1, 1)  # raises for an unknown scale here instead of in the first forward
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

    @classmethod
    def from_spec(cls, spec: StageSpec, **options: Any) -> CirculantAttention:
        if options.get('head_dim') == 'softmax':
            options['head_dim'] = spec.embed_dims // spec.num_heads
        return super().from_spec(spec, **options)

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, N, C) -> (B, N, C), N = H * W.

        Raises:
            InputError: H * W != N, or C is not embed_dims.
        """
        check_tokens(x, hw_shape, self.embed_dims)
        options = hw_shape, self.head_dim, self.scale
        if self.reweighting != 'pre' and _is_plain_linear(self.qkv):
            out = circulant_self_attention(x, self.qkv.weight, *options)
        else:
            q, k, v = self.qkv(x).chunk(3, dim=2)
            v = v * self.gate(x) if self.reweighting == 'pre' else v
            out = circulant_attention(q, k, v, *options)
        tokens = x.flatten(0, 1), out.flatten(0, 1)
        out = in_chunks(self._reweight_and_project, *tokens, width=self.embed_dims)
        return self.proj_drop(out.view_as(x))

    def _reweight_and_project(self, x: Tensor, out: Tensor) -> Tensor:
        return self.proj(out * self.gate(x) if self.reweighting == 'post' else out)

    @classmethod
    def from_softmax(cls, tensors: Mapping[str, Tensor], spec: StageSpec) -> dict[str, Tensor]:
        """Circulant attention with the projections of the softmax attention.

        The biases of q and k are dropped: they only shift the logits of a channel by a constant.
        The bias of v passes through the attention, because the weights sum to one, and is added to
        the bias of `proj`. The gate starts as a factor of one.
        """
        weight, bias = tensors['qkv.weight'], tensors['qkv.bias']
        dims = len(weight) // 3
        proj = tensors['proj.weight']
        return {
            'qkv.weight': weight,
            'proj.weight': proj,
            'proj.bias': tensors['proj.bias'] + proj @ bias[2 * dims :],
            'gate.0.weight': weight.new_zeros(dims, dims),
            'gate.0.bias': weight.new_full((dims,), GATE_ONE),
        }

    def start_advice(self) -> str:
        """With one channel per head, it is not the matrix nearest to the softmax attention."""
        if self.scale == 'paper' and self.head_dim == self.embed_dims // self.spec.num_heads:
            return ''
        return (
            'circulant attention starts closer to softmax attention with '
            "attn_cfg=dict(circulant=dict(head_dim='softmax', scale='paper')): the maps of DeiT-T "
            'have a mean relative error of 0.76, instead of 0.94 with head_dim=1'
        )

    def extra_macs(self, hw_shape: tuple[int, int]) -> int:
        """The transforms and spectral products, see :func:`mmca.ops.dft.dft_macs`."""
        return dft_macs(hw_shape[0] * hw_shape[1], self.embed_dims, self.head_dim)

    def exported_macs(self, hw_shape: tuple[int, int]) -> int:
        """The same as products with DFT matrices."""
        return matrix_macs(hw_shape, self.embed_dims, self.head_dim)

    def attention_weights(self, x: Tensor, hw_shape: tuple[int, int], token: int) -> Tensor:
        """(B, C / d, H, W): the head's kernel, moved on the torus to the query token."""
        return self.attention_kernel(x, hw_shape).roll(divmod(token, hw_shape[1]), (2, 3))

    def attention_kernel(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, C / d, H, W): softmax(a) of every head."""
        q, k, _ = self.qkv(x).chunk(3, dim=2)
        return circulant_kernel(q, k, hw_shape, self.head_dim, self.scale)

    def extra_repr(self) -> str:
        return f'head_dim={self.head_dim}, reweighting={self.reweighting!r}, scale={self.scale!r}'


_HOOKS = ('_forward_hooks', '_forward_pre_hooks', '_backward_hooks', '_backward_pre_hooks')


def _is_plain_linear(module: nn.Module) -> bool:
    """Whether x @ weight.T is all that calling the module does.

    A subclass (an adapter, a parametrized or quantized Linear), a bias, a forward of the instance's
    own, a hook or a weight of another tensor type has to be called. torch has no public way to ask
    for hooks; 2.6 to 2.13 keep them under these names.
    """
    return (
        type(module) is nn.Linear
        and module.bias is None
        and type(module.weight) in (nn.Parameter, Tensor)
        and 'forward' not in vars(module)
        and not any(getattr(module, name) for name in _HOOKS)
        and not any(getattr(torch_module, f'_global{name}') for name in _HOOKS)
    )
