"""Parameter names and shapes are those of the original repositories, written out by hand.

Left out, as the backbones leave them out: class heads, class tokens, the classifier's last norm
(PVT, Swin, CSwin; the dense code of the last two has a norm for each map) and index buffers.
"""

import pytest
import torch

from mmca import backbones

PVT_DEPTHS = {'t': (2, 2, 2, 2), 's': (3, 4, 6, 3), 'm': (3, 4, 18, 3), 'l': (3, 8, 27, 3)}
PVT_DIMS, PVT_HEADS = (64, 128, 320, 512), (1, 2, 5, 8)
PVT_MLP, PVT_SR = (8, 8, 4, 4), (8, 4, 2, 1)
SWIN = {
    't': (96, (2, 2, 6, 2), (3, 6, 12, 24)),
    's': (96, (2, 2, 18, 2), (3, 6, 12, 24)),
    'b': (128, (2, 2, 18, 2), (4, 8, 16, 32)),
}
CSWIN = {
    't': (64, (1, 2, 21, 1), (2, 4, 8, 16)),
    's': (64, (2, 4, 32, 2), (2, 4, 8, 16)),
    'b': (96, (2, 4, 32, 2), (4, 8, 16, 32)),
}
FLATTEN_CSWIN = {
    't': (64, (2, 4, 18, 1), (2, 4, 8, 16)),
    's': (64, (2, 4, 32, 2), (2, 4, 8, 16)),
    'b': (96, (3, 6, 29, 2), (4, 8, 16, 32)),
}
DEIT = {'t': 192, 's': 384, 'b': 768}


def linear(name, outputs, inputs, bias=True):
    return {f'{name}.weight': (outputs, inputs)} | ({f'{name}.bias': (outputs,)} if bias else {})


def conv(name, outputs, inputs, kernel):
    return {f'{name}.weight': (outputs, inputs, kernel, kernel), f'{name}.bias': (outputs,)}


def norm(name, dims):
    return {f'{name}.weight': (dims,), f'{name}.bias': (dims,)}


def block(prefix, dims, mlp, attention, cpe=False):
    names = norm('norm1', dims) | norm('norm2', dims)
    names |= linear('mlp.fc1', mlp * dims, dims) | linear('mlp.fc2', dims, mlp * dims)
    names |= {f'attn.{key}': value for key, value in attention.items()}
    names |= conv('cpe', dims, 1, 3) if cpe else {}
    return {f'{prefix}.{key}': value for key, value in names.items()}


def circulant(dims):
    qkv = linear('qkv', 3 * dims, dims, bias=False)
    return qkv | linear('gate.0', dims, dims) | linear('proj', dims, dims)


def focused(dims, heads, tokens, split):
    qkv = linear('qkv', 3 * dims, dims)
    if split:
        qkv = linear('q', dims, dims) | linear('kv', 2 * dims, dims)
    own = {'scale': (1, 1, dims), 'positional_encoding': (1, tokens, dims)}
    return qkv | linear('proj', dims, dims) | conv('dwc', dims // heads, 1, 5) | own


def pvt(size, attn):
    names, inputs = {}, 3
    for i, (dims, depth) in enumerate(zip(PVT_DIMS, PVT_DEPTHS[size], strict=True)):
        side = 56 // 2**i
        names |= conv(f'patch_embed{i + 1}.proj', dims, inputs, 4 if i == 0 else 2)
        names |= norm(f'patch_embed{i + 1}.norm', dims)
        names[f'pos_embed{i + 1}'] = (1, side * side, dims)
        spatial = linear('q', dims, dims) | linear('kv', 2 * dims, dims)
        spatial |= linear('proj', dims, dims)
        if PVT_SR[i] > 1:
            spatial |= conv('sr', dims, dims, PVT_SR[i]) | norm('norm', dims)
        attention = {
            'S': spatial,
            'C': circulant(dims),
            'L': focused(dims, PVT_HEADS[i], side * side, split=True),
        }[attn[i]]
        for j in range(depth):
            names |= block(f'block{i + 1}.{j}', dims, PVT_MLP[i], attention, attn[i] == 'C')
        inputs = dims
    return names


def swin(size, attn):
    first, depths, heads = SWIN[size]
    names = conv('patch_embed.proj', first, 3, 4) | norm('patch_embed.norm', first)
    for i, depth in enumerate(depths):
        dims = first * 2**i
        window = linear('qkv', 3 * dims, dims) | linear('proj', dims, dims)
        window['relative_position_bias_table'] = (13 * 13, heads[i])
        attention = {
            'S': window,
            'C': circulant(dims),
            'L': focused(dims, heads[i], (56 // 2**i) ** 2, split=False),
        }[attn[i]]
        for j in range(depth):
            names |= block(f'layers.{i}.blocks.{j}', dims, 4, attention, attn[i] == 'C')
        if i < 3:
            names |= norm(f'layers.{i}.downsample.norm', 4 * dims)
            names |= linear(f'layers.{i}.downsample.reduction', 2 * dims, 4 * dims, bias=False)
        names |= norm(f'norm{i}', dims)
    return names


def cswin(size, attn):
    first, depths, heads = (FLATTEN_CSWIN if 'L' in attn else CSWIN)[size]
    names = conv('stage1_conv_embed.0', first, 3, 7) | norm('stage1_conv_embed.2', first)
    for i, depth in enumerate(depths):
        dims, branches = first * 2**i, 1 if i == 3 else 2
        names |= norm(f'norm{i + 1}', dims)
        if i > 0:
            names |= conv(f'merge{i}.conv', dims, dims // 2, 3) | norm(f'merge{i}.norm', dims)
        own = linear('qkv', 3 * dims, dims) | linear('proj', dims, dims)
        for k in range(branches) if attn[i] == 'S' else ():
            own |= conv(f'attns.{k}.get_v', dims // branches, 1, 3)
        if attn[i] == 'L':
            own |= conv('attns.0.get_v', dims, 1, 3) | conv('attns.0.dwc', dims // heads[i], 1, 5)
            own['attns.0.scale'] = (1, 1, dims)
            own['attns.0.positional_encoding'] = (1, (56 // 2**i) ** 2, dims)
        for j in range(depth):
            if attn[i] == 'C':
                names |= block(f'stage{i + 1}.{j}', dims, 4, circulant(dims), cpe=True)
            else:
                names |= block(f'stage{i + 1}.{j}', dims, 4, {})
                names |= {f'stage{i + 1}.{j}.{key}': value for key, value in own.items()}
    return names


def deit(size, attn):
    dims = DEIT[size]
    names = conv('patch_embed.proj', dims, 3, 16) | norm('norm', dims)
    attention = circulant(dims)
    if attn == 'S':
        names['pos_embed'] = (1, 196, dims)  # 197 in the file, the class token's first
        attention = linear('qkv', 3 * dims, dims) | linear('proj', dims, dims)
    for j in range(12):
        names |= block(f'blocks.{j}', dims, 4, attention, attn == 'C')
    return names


@pytest.mark.parametrize(
    ('cls', 'sizes', 'names', 'attn'),
    [
        (backbones.PVT, 'tsml', pvt, 'SSSS'),
        (backbones.CAPVT, 'tsml', pvt, 'CCSS'),
        (backbones.FLattenPVT, 'tsml', pvt, 'LLLL'),
        (backbones.Swin, 'tsb', swin, 'SSSS'),
        (backbones.CASwin, 'tsb', swin, 'CCSS'),
        (backbones.FLattenSwin, 'tsb', swin, 'LLSS'),
        (backbones.CSwin, 'tsb', cswin, 'SSSS'),
        (backbones.CACSwin, 'tsb', cswin, 'CCSS'),
        (backbones.FLattenCSwin, 'tsb', cswin, 'LLSS'),
        (backbones.DeiT, 'tsb', deit, 'S'),
        (backbones.CADeiT, 'tsb', deit, 'C'),
    ],
    ids=lambda value: getattr(value, '__name__', value),
)
def test_names_and_shapes_are_the_originals(cls, sizes, names, attn):
    for size in sizes:
        with torch.device('meta'):
            state = cls(size).state_dict()
        assert {name: tuple(value.shape) for name, value in state.items()} == names(size, attn)
