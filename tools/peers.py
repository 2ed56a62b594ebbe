"""What tools/benchmark.py sets side by side: ours, plain forms written from formulas, mmdet's own.

Everything is built from the parsed command line alone, so that a process of its own can build one
side again and measure its memory.
"""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from config_file import install_hint, library_of, load_config
from torch import Tensor, nn

from mmca import layers, ops
from mmca.errors import InputError

# Class of mmca.backbones and the letters of its sizes.
FAMILIES = {
    'capvt': ('CAPVT', 'tsml'),
    'caswin': ('CASwin', 'tsb'),
    'cadeit': ('CADeiT', 'tsb'),
    'pvt': ('PVT', 'tsml'),
    'swin': ('Swin', 'tsb'),
    'deit': ('DeiT', 'tsb'),
    'flattenpvt': ('FLattenPVT', 'tsml'),
    'flattenswin': ('FLattenSwin', 'tsb'),
}
SWIN_T = {'embed_dims': 96, 'depths': (2, 2, 6, 2), 'num_heads': (3, 6, 12, 24)}
# Class of mmdet.models.backbones, its arguments, and which of ours computes the same.
MMDET = {
    'mmdet_pvt_s': ('PyramidVisionTransformer', {'num_layers': (3, 4, 6, 3)}, 'pvt_s'),
    'mmdet_pvt_l': ('PyramidVisionTransformer', {'num_layers': (3, 8, 27, 3)}, 'pvt_l'),
    'mmdet_swin_t': ('SwinTransformer', SWIN_T, 'swin_t'),
    'mmdet_swin_s': ('SwinTransformer', {**SWIN_T, 'depths': (2, 2, 18, 2)}, 'swin_s'),
    'resnet50': ('ResNet', {'depth': 50}, None),
}
BACKBONES = (*(f'{name}_{size}' for name in FAMILIES for size in FAMILIES[name][1]), *MMDET)
# All stages of this image are larger than one window of Swin: in a grid that fits into one, mmdet
# shifts and masks, and ours, like the original classifier, does not.
PROBE_SHAPE = (256, 320)
BOXES = 8
MLP_RATIO = 8  # of the stages that circulant attention is meant for, PVT's first two
NORM_EPS = 1e-6
WINDOW = 49  # tokens
FLOAT_MASK = 'the mask of mmdet is in float32, take --amp'


@dataclass
class Side:
    """One of the things compared.

    Attributes:
        name: how it is called in tables.
        call: a module or a function; its tensors are what the backward pass starts from.
        inputs: its arguments; tensors that require gradients get them.
        probe: arguments for the comparison of results, where those of the timing are too large.
        after: what belongs to a training step after the backward pass.
        grads: gradients of the outputs, drawn once and then kept.
    """

    name: str
    call: Callable[..., Any]
    inputs: tuple
    probe: tuple | None = None
    after: Callable[[], None] | None = None
    grads: list[Tensor] | None = None


@dataclass(frozen=True)
class Case:
    """Sides that are timed together.

    Attributes:
        name: the size, or what else tells it from others.
        builders: name of a side -> what builds its `call`, `inputs` and so on.
        ours: the sides whose ratios to all others are reported.
        same: pairs (ours, theirs) that must agree in outputs and gradients with equal weights.
        skipped: name of a side -> why it is not here.
        tokens: N where it makes sense, for the slope over sizes.
    """

    name: str
    builders: dict[str, Callable[[], Side]]
    ours: tuple[str, ...]
    same: tuple[tuple[str, str], ...] = ()
    skipped: dict[str, str] = field(default_factory=dict)
    tokens: int = 0


def straightforward_attention(q: Tensor, k: Tensor, v: Tensor, hw_shape: tuple[int, int]) -> Tensor:
    """Circulant attention with one channel a head, formula by formula (arXiv 2512.21542).

        a = Q (*) K / sqrt(N),  O = softmax(a) (*) V,  b (*) x = irfft2(conj(rfft2(b)) . rfft2(x))

    Args:
        q, k, v: (B, N, C).
        hw_shape: (H, W), N = H * W.

    Returns:
        (B, N, C) in the dtype of v; the transforms know no half precision.
    """

    def correlate(b: Tensor, x: Tensor) -> Tensor:
        b_hat, x_hat = torch.fft.rfft2(b, dim=(1, 2)), torch.fft.rfft2(x, dim=(1, 2))
        return torch.fft.irfft2(b_hat.conj() * x_hat, s=hw_shape, dim=(1, 2))

    dtype = torch.promote_types(v.dtype, torch.float32)
    q_map, k_map, v_map = (x.to(dtype).unflatten(1, hw_shape) for x in (q, k, v))
    logits = correlate(q_map, k_map).flatten(1, 2) * q.shape[1] ** -0.5
    weights = logits.softmax(1).unflatten(1, hw_shape)
    return correlate(weights, v_map).flatten(1, 2).to(v.dtype)


def straightforward_self_attention(x: Tensor, weight: Tensor, hw_shape: tuple[int, int]) -> Tensor:
    """The same of q, k, v = x W^T; x (B, N, C), weight (3C, C)."""
    return straightforward_attention(*F.linear(x, weight).chunk(3, dim=2), hw_shape)


class StraightforwardCirculant(nn.Module):
    """The layer as its paper writes it, all gradients by autograd.

    Parameter names are those of :class:`mmca.layers.CirculantAttention`.

    Args:
        embed_dims: C.
    """

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims, bias=False)
        self.gate = nn.Sequential(nn.Linear(embed_dims, embed_dims), nn.SiLU())
        self.proj = nn.Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, N, C) -> (B, N, C), N = H * W."""
        q, k, v = self.qkv(x).chunk(3, dim=2)
        return self.proj(straightforward_attention(q, k, v, hw_shape) * self.gate(x))


def plain_mlp(x: Tensor, w_in: Tensor, b_in: Tensor, w_out: Tensor, b_out: Tensor) -> Tensor:
    """GELU(x W_1 + b_1) W_2 + b_2; x (B, N, C)."""
    return F.linear(F.gelu(F.linear(x, w_in, b_in)), w_out, b_out)


def plain_layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Torch's own, the result laid out as a circulant layer wants it; x (B, N, C)."""
    return F.layer_norm(x, weight.shape, weight, bias, NORM_EPS).mT.contiguous().mT


def plain_gated_projection(
    out: Tensor, x: Tensor, w_gate: Tensor, b_gate: Tensor, w_proj: Tensor, b_proj: Tensor
) -> Tensor:
    """(out . SiLU(x W_T + b_T)) W_O + b_O; out and x (B, N, C)."""
    return F.linear(out * F.silu(F.linear(x, w_gate, b_gate)), w_proj, b_proj)


def plain_window_attention(
    x: Tensor, w_qkv: Tensor, b_qkv: Tensor, w_proj: Tensor, b_proj: Tensor, bias: Tensor
) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v of q, k, v = x W + b, then W_O; x (n, M, C)."""
    qkv = F.linear(x, w_qkv, b_qkv).unflatten(2, (3, len(bias), -1))
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    weights = (q @ k.mT * q.shape[-1] ** -0.5 + bias).softmax(-1)
    return F.linear((weights @ v).transpose(1, 2).flatten(2), w_proj, b_proj)


class DetectorStep(nn.Module):
    """A detector as a function of raw data: its summed loss in training, else its predictions.

    Args:
        model: from a config of mmdet.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, data: dict) -> Any:
        """Raw images and annotations -> () loss or a list of predictions."""
        data = self.model.data_preprocessor(data, self.training)
        if not self.training:
            return self.model(**data, mode='predict')
        return self.model.parse_losses(self.model(**data, mode='loss'))[0]


def op_cases(args: Namespace) -> list[Case]:
    """Every op of mmca.ops that has a plain form, at every size.

    Args:
        args: `sizes` of (B, H, W, C), `device`, `dtype`, `seed`.

    Returns:
        One case an op and size.
    """
    return [case for size in args.sizes for case in _ops_of_size(size, args)]


def _ops_of_size(size: tuple[int, int, int, int], args: Namespace) -> list[Case]:
    batch, height, width, channels = size
    hw_shape, hidden = (height, width), MLP_RATIO * channels
    tokens, square, vector = (batch, height * width, channels), (channels, channels), (channels,)
    on_grid = {'hw_shape': hw_shape}
    windows, heads = max(batch * height * width // WINDOW, 1), _heads(channels, 32)
    rows = {
        'circulant_attention': (
            partial(ops.circulant_attention, **on_grid),
            partial(straightforward_attention, **on_grid),
            (tokens, tokens, tokens),
        ),
        'circulant_self_attention': (
            partial(ops.circulant_self_attention, **on_grid),
            partial(straightforward_self_attention, **on_grid),
            (tokens, (3 * channels, channels)),
        ),
        'gated_projection': (
            ops.gated_projection,
            plain_gated_projection,
            (tokens, tokens, square, vector, square, vector),
        ),
        'layer_norm': (
            partial(ops.layer_norm, eps=NORM_EPS),
            plain_layer_norm,
            (tokens, vector, vector),
        ),
        'mlp': (
            ops.mlp,
            plain_mlp,
            (tokens, (hidden, channels), (hidden,), (channels, hidden), vector),
        ),
        'window_attention': (
            partial(ops.window_attention, masks=((windows, None),)),
            plain_window_attention,
            (
                (windows, WINDOW, channels),
                (3 * channels, channels),
                (3 * channels,),
                square,
                vector,
                (heads, WINDOW, WINDOW),
            ),
        ),
    }
    cases = []
    for name, (ours, plain, shapes) in rows.items():
        # Tokens lie channels first where a circulant block hands them on so; the others get what
        # suits the plain form.
        first = name in ('layer_norm', 'gated_projection')
        inputs = partial(_draw, shapes, args, channels_first=first)
        builders = {
            'ours': partial(_op_side, 'ours', ours, inputs),
            'plain': partial(_op_side, 'plain', plain, inputs),
        }
        label = 'x'.join(map(str, size))
        cases.append(Case(f'{name} {label}', builders, ('ours',), (('ours', 'plain'),)))
    return cases


def _op_side(name: str, call: Callable, inputs: Callable[[], list[Tensor]]) -> Side:
    return Side(name, call, tuple(inputs()))


def layer_cases(args: Namespace) -> list[Case]:
    """Our layer against the straightforward one and against other attentions on the same tokens.

    Args:
        args: as for :func:`op_cases`, and `softmax_tokens`.

    Returns:
        One case a size. The spatial reduction and the windows are mmdet's; the first adds its
        input to its output.
    """
    cases = []
    for size in args.sizes:
        batch, height, width, channels = size
        cell = max(min(8 if channels <= 64 else 4, height, width), 1)
        modules = {
            **_attentions(channels),
            'reduction': partial(_mmdet_reduction, channels, cell),
            'windows': partial(_mmdet_windows, channels, 0),
            'shifted': partial(_mmdet_windows, channels, 3),
        }
        skipped = {}
        if find_spec('mmdet') is None:
            skipped = dict.fromkeys(('reduction', 'windows', 'shifted'), 'mmdet is not installed')
        elif args.dtype == torch.bfloat16:
            skipped['shifted'] = FLOAT_MASK
        name = 'x'.join(map(str, size))
        cases.append(_layer_case(name, modules, skipped, (batch, height, width, channels), args))
    return cases


def scaling_cases(args: Namespace) -> list[Case]:
    """Our layer and others on square grids of growing side.

    Args:
        args: `sides`, `channels`, `softmax_tokens`, `device`, `dtype`, `seed`.

    Returns:
        One case a side, one image each.
    """
    modules = _attentions(args.channels)
    return [
        _layer_case(f'{side}x{side}', modules, {}, (1, side, side, args.channels), args)
        for side in args.sides
    ]


def _attentions(channels: int) -> dict[str, Callable[[], nn.Module]]:
    return {
        'ours': partial(layers.CirculantAttention, channels),
        'straightforward': partial(StraightforwardCirculant, channels),
        'softmax': partial(layers.SelfAttention, channels, _heads(channels, 64)),
        'linear': partial(layers.FocusedLinearAttention, channels, _heads(channels, 64)),
    }


def _layer_case(
    name: str,
    modules: dict[str, Callable[[], nn.Module]],
    skipped: dict[str, str],
    size: tuple[int, int, int, int],
    args: Namespace,
) -> Case:
    """A case of modules that are called with tokens and the grid's shape."""
    batch, height, width, channels = size
    tokens = height * width
    if tokens > args.softmax_tokens:
        reason = f'{tokens} tokens are more than --softmax-tokens {args.softmax_tokens}'
        skipped = skipped | {'softmax': reason}

    def build(side: str) -> Side:
        module = modules[side]().to(args.device, args.dtype)
        (x,) = _draw([(batch, tokens, channels)], args)
        return Side(side, module, (x, (height, width)))

    builders = {side: partial(build, side) for side in modules if side not in skipped}
    return Case(name, builders, ('ours',), (('ours', 'straightforward'),), skipped, tokens)


def backbone_cases(args: Namespace) -> list[Case]:
    """Whole backbones on one image size.

    Args:
        args: `ours` and `peers`, names of `BACKBONES`; `shape`, `batch`, `device`, `dtype`,
            `seed`.

    Returns:
        One case.

    Raises:
        InputError: an unknown name, or a package that it needs is absent.
    """
    names = list(dict.fromkeys([*args.ours, *args.peers]))
    if len(names) == len(set(args.ours)):
        raise InputError('--peers names none besides --ours: there is nothing to compare with')
    for name in names:
        if name not in BACKBONES:
            raise InputError(f'unknown backbone {name!r}; known are {", ".join(BACKBONES)}')
        if args.dtype == torch.bfloat16 and name.startswith('mmdet_swin'):
            raise InputError(f'{name} does not run in bfloat16: {FLOAT_MASK}')
    require(['mmengine', 'mmcv'] + ['mmdet'] * any(name in MMDET for name in names))

    def build(name: str) -> Side:
        images, probe = _draw([(args.batch, 3, *args.shape), (1, 3, *PROBE_SHAPE)], args)
        module = build_backbone(name).to(args.device, args.dtype)
        return Side(name, module, (images.detach(),), (probe.detach(),))

    same = tuple((MMDET[peer][2], peer) for peer in names if peer in MMDET)
    same = tuple(pair for pair in same if pair[0] in names)
    label = f'{args.batch}x3x{args.shape[0]}x{args.shape[1]}'
    return [Case(label, {n: partial(build, n) for n in names}, tuple(args.ours), same)]


def build_backbone(name: str) -> nn.Module:
    """A backbone with its weights as training from scratch starts, without stochastic depth.

    Args:
        name: one of `BACKBONES`.

    Returns:
        The backbone, on the CPU.
    """
    if name not in MMDET:
        from mmca import backbones

        family, size = name.split('_')
        return getattr(backbones, FAMILIES[family][0])(size, drop_path_rate=0.0)
    from mmdet.models import backbones

    kind, settings, _ = MMDET[name]
    if kind == 'ResNet':
        return backbones.ResNet(**settings)
    model = getattr(backbones, kind)(**settings, drop_path_rate=0.0)
    if kind == 'PyramidVisionTransformer':
        # mmdet has one eps everywhere, the original two: made equal, the two must agree.
        for patch_embed, (_, *blocks), _ in model.layers:
            patch_embed.norm.eps = 1e-5
            for block in blocks:
                if block.attn.sr_ratio > 1:
                    block.attn.norm.eps = 1e-5
    return model


def init_backbone(model: nn.Module) -> None:
    """Let a backbone draw its weights as it does before training, without its log lines."""
    logging.disable(logging.WARNING)
    try:
        model.init_weights()
    finally:
        logging.disable(logging.NOTSET)


def detector_cases(args: Namespace) -> list[Case]:
    """Whole detectors from configs on one random image with random boxes and masks.

    An untrained detector is sure of nothing, so its prediction has no boxes and no masks.

    Args:
        args: `configs`, of which the first is ours; `shape`, `device`, `seed`.

    Returns:
        One case.

    Raises:
        InputError: a config that is absent, broken or not mmdet's.
    """
    require(['mmengine', 'mmcv', 'mmdet'])
    cfgs = {Path(path).stem: load_config(path, []) for path in args.configs}
    if len(cfgs) < 2 or len(cfgs) < len(args.configs):
        raise InputError('--configs: give two files or more, of different names')
    for path, cfg in zip(args.configs, cfgs.values(), strict=True):
        if library_of(cfg, path) != 'mmdet':
            raise InputError(f'config {path} is no detector: its default_scope is not mmdet')

    def build(name: str) -> Side:
        from mmdet.testing import demo_mm_inputs
        from mmengine.optim import build_optim_wrapper
        from mmengine.registry import MODELS, DefaultScope

        cfg = cfgs[name]
        cfg.model.backbone.init_cfg = None
        if 'drop_path_rate' in cfg.model.backbone:
            cfg.model.backbone.drop_path_rate = 0.0
        with DefaultScope.overwrite_default_scope('mmdet'):
            model = MODELS.build(cfg.model)
            init_backbone(model)
            model.to(args.device)
            optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
        for group in optimizer.param_groups:
            group['lr'] = 0.0  # all the work of a step, yet the next round starts from the same
        # All labels are 1, which every detector has.
        data = demo_mm_inputs(
            1, [(3, *args.shape)], [BOXES], num_classes=2, with_mask=True, device=args.device
        )
        return Side(name, DetectorStep(model), (data,), after=optimizer.step)

    label = f'1x3x{args.shape[0]}x{args.shape[1]}'
    return [Case(label, {name: partial(build, name) for name in cfgs}, (next(iter(cfgs)),))]


def require(packages: Iterable[str]) -> None:
    """Refuse to go on without packages.

    Args:
        packages: names to import.

    Raises:
        InputError: one of them is not installed.
    """
    for name in packages:
        if find_spec(name) is None:
            raise InputError(install_hint(name))


def _draw(
    shapes: Sequence[tuple[int, ...]], args: Namespace, channels_first: bool = False
) -> list[Tensor]:
    """Normal leaves of these shapes, the same for every side; matrices keep what they multiply."""
    generator = torch.Generator().manual_seed(args.seed)
    leaves = []
    for shape in shapes:
        x = torch.randn(shape, generator=generator)
        if len(shape) == 2:
            x *= shape[1] ** -0.5
        if len(shape) == 3 and channels_first:
            x = x.mT.contiguous().mT
        leaves.append(x.to(args.device, args.dtype).requires_grad_())
    return leaves


def _heads(channels: int, width: int) -> int:
    """The number of heads of about this width that divides the channels."""
    most = max(channels // width, 1)
    return next(heads for heads in range(most, 0, -1) if channels % heads == 0)


def _mmdet_reduction(channels: int, cell: int) -> nn.Module:
    from mmdet.models.backbones.pvt import SpatialReductionAttention

    return SpatialReductionAttention(channels, _heads(channels, 64), sr_ratio=cell)


def _mmdet_windows(channels: int, shift: int) -> nn.Module:
    from mmdet.models.backbones.swin import ShiftWindowMSA

    return ShiftWindowMSA(channels, _heads(channels, 32), window_size=7, shift_size=shift)
