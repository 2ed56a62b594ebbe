"""Tiny architectures of all families, defined once."""

from mmca import backbones

PVT = {
    'embed_dims': (8, 16, 24, 32),
    'depths': (1, 1, 2, 1),
    'num_heads': (1, 2, 3, 4),
    'mlp_ratios': (2, 2, 2, 2),
}
SWIN = {'embed_dims': 8, 'depths': (2, 2, 2, 2), 'num_heads': (1, 2, 4, 8), 'mlp_ratio': 2}
CSWIN = {**SWIN, 'depths': (1, 1, 2, 1), 'num_heads': (2, 2, 4, 8)}
DEIT = {'embed_dims': 16, 'depth': 4, 'num_heads': 2, 'mlp_ratio': 2}
SHORT_SWIN = {**SWIN, 'depths': (1, 1, 2, 1)}
SHORT_DEIT = {**DEIT, 'depth': 2}

# (backbone, architecture): those with four maps, and those with one.
HIERARCHICAL = [
    (backbones.PVT, PVT),
    (backbones.CAPVT, PVT),
    (backbones.FLattenPVT, PVT),
    (backbones.PVTv2, PVT),
    (backbones.FLattenPVTv2, PVT),
    (backbones.Swin, SWIN),
    (backbones.CASwin, SWIN),
    (backbones.FLattenSwin, SWIN),
    (backbones.CSwin, CSWIN),
    (backbones.CACSwin, CSWIN),
    (backbones.FLattenCSwin, CSWIN),
]
PLAIN = [(backbones.DeiT, DEIT), (backbones.CADeiT, DEIT)]
