"""Baselines: ops and a layer in ordinary torch, mmdet's modules and backbones, timm's.

The dense forms in `mmca.ops.naive` serve tests and are slow on purpose. The baseline here is a
direct implementation: circulant attention by Fourier transforms.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.cases import num_heads

MMDET_MASK = "mmdet's attention mask is float32, use --amp"
SWIN_T = {'embed_dims': 96, 'depths': (2, 2, 6, 2), 'num_heads': (3, 6, 12, 24)}


class MmdetBackbone(NamedTuple):
    """A backbone of mmdet, and the one of mmca that computes the same, if any."""

    kind: str
    settings: dict
    channels: list[int]
    ours: str | None = None


PVT_CHANNELS, SWIN_CHANNELS = [64, 128, 320, 512], [96, 192, 384, 768]
MMDET_BACKBONES = {
    'mmdet_pvt_s': MmdetBackbone(
        'PyramidVisionTransformer', {'num_layers': (3, 4, 6, 3)}, PVT_CHANNELS, 'pvt_s'
    ),
    'mmdet_pvt_l': MmdetBackbone(
        'PyramidVisionTransformer', {'num_layers': (3, 8, 27, 3)}, PVT_CHANNELS, 'pvt_l'
    ),
    'mmdet_swin_t': MmdetBackbone('SwinTransformer', SWIN_T, SWIN_CHANNELS, 'swin_t'),
    'mmdet_swin_s': MmdetBackbone(
        'SwinTransformer', {**SWIN_T, 'depths': (2, 2, 18, 2)}, SWIN_CHANNELS, 'swin_s'
    ),
    'resnet50': MmdetBackbone('ResNet', {'depth': 50}, [256, 512, 1024, 2048]),
}

# timm's models and arguments: the nearest to Swin-T and PVT-S.
TIMM_BACKBONES = {
    'timm_swin_t': ('swin_tiny_patch4_window7_224', {'strict_img_size': False}),
    'timm_pvtv2_b2': ('pvt_v2_b2', {}),
}


def circulant_attention(q: Tensor, k: Tensor, v: Tensor, hw_shape: tuple[int, int]) -> Tensor:
    """Circulant attention with one channel per head, formula by formula (arXiv 2512.21542).

        a = Q (*) K / sqrt(N),  O = softmax(a) (*) V,  b (*) x = irfft2(conj(rfft2(b)) . rfft2(x))

    q, k, v and the result are (B, N, C), N = H * W; half precision is computed in float32.
    """

    def correlate(b: Tensor, x: Tensor) -> Tensor:
        b_hat, x_hat = torch.fft.rfft2(b, dim=(1, 2)), torch.fft.rfft2(x, dim=(1, 2))
        return torch.fft.irfft2(b_hat.conj() * x_hat, s=hw_shape, dim=(1, 2))

    dtype = torch.promote_types(v.dtype, torch.float32)
    q_map, k_map, v_map = (x.to(dtype).unflatten(1, hw_shape) for x in (q, k, v))
    logits = correlate(q_map, k_map).flatten(1, 2) * q.shape[1] ** -0.5
    weights = logits.softmax(1).unflatten(1, hw_shape)
    return correlate(weights, v_map).flatten(1, 2).to(v.dtype)


def circulant_self_attention(x: Tensor, weight: Tensor, hw_shape: tuple[int, int]) -> Tensor:
    """:func:`circulant_attention` of q, k, v = x W^T; x (B, N, C), weight (3C, C)."""
    return circulant_attention(*F.linear(x, weight).chunk(3, dim=2), hw_shape)


class CirculantBaseline(nn.Module):
    """The layer as the paper writes it, all gradients by autograd.

    Parameter names are those of :class:`mmca.layers.CirculantAttention`.
    """

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims, bias=False)
        self.gate = nn.Sequential(nn.Linear(embed_dims, embed_dims), nn.SiLU())
        self.proj = nn.Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, N, C) -> (B, N, C), N = H * W."""
        q, k, v = self.qkv(x).chunk(3, dim=2)
        return self.proj(circulant_attention(q, k, v, hw_shape) * self.gate(x))


def mmdet_attentions(channels: int, sr_ratio: int) -> dict[str, Callable[[], nn.Module]]:
    """Name -> builder of an attention of mmdet's PVT or Swin, (B, N, C), (H, W) -> (B, N, C).

    `mmdet_reduction` adds its input to its output.
    """

    def reduction() -> nn.Module:
        from mmdet.models.backbones.pvt import SpatialReductionAttention

        return SpatialReductionAttention(channels, num_heads(channels, 64), sr_ratio=sr_ratio)

    def window(shift: int) -> nn.Module:
        from mmdet.models.backbones.swin import ShiftWindowMSA

        return ShiftWindowMSA(channels, num_heads(channels, 32), window_size=7, shift_size=shift)

    return {
        'mmdet_reduction': reduction,
        'mmdet_window': lambda: window(0),
        'mmdet_shifted': lambda: window(3),
    }


def mmdet_settings(name: str) -> dict:
    """The config of a backbone in `MMDET_BACKBONES`, without stochastic depth."""
    kind, settings, *_ = MMDET_BACKBONES[name]
    depth = {} if kind == 'ResNet' else {'drop_path_rate': 0.0}
    return {'type': f'mmdet.{kind}', **settings, **depth}


def mmdet_backbone(name: str) -> nn.Module:
    """Build a backbone in `MMDET_BACKBONES`, without stochastic depth."""
    import mmdet.models.backbones  # noqa: F401 (registers them)
    from mmdet.registry import MODELS

    model = MODELS.build(mmdet_settings(name))
    if MMDET_BACKBONES[name].kind == 'PyramidVisionTransformer':
        # mmdet has one eps everywhere, the original two: the check needs them equal.
        for patch_embed, (_, *blocks), _ in model.layers:
            patch_embed.norm.eps = 1e-5
            for block in blocks:
                if block.attn.sr_ratio > 1:
                    block.attn.norm.eps = 1e-5
    return model


def timm_backbone(name: str) -> nn.Module:
    """Build a backbone in `TIMM_BACKBONES`, without stochastic depth."""
    import timm

    model, settings = TIMM_BACKBONES[name]
    return timm.create_model(model, features_only=True, drop_path_rate=0.0, **settings)
