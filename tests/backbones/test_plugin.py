"""A new attention in one file outside of the installation, named in custom_imports."""

import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from mmca.analysis import attention_inputs, attention_matrices, count_flops, normalized_entropy
from mmca.checkpoint import load_pretrained
from mmca.layers.attention import unregister_attention
from tests.tiny import DEIT, PVT, SWIN

PLUGIN = '''
from torch import nn
from mmca.layers import Attention, register_attention

@register_attention('mean', letter='M')
class MeanAttention(Attention):
    """Every token gets the projected mean of all."""

    no_weight_decay = ('bias',)

    def __init__(self, embed_dims, temperature=1.0):
        super().__init__()
        self.temperature = temperature
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.bias = nn.Parameter(self.proj.weight.new_zeros(embed_dims))

    def forward(self, x, hw_shape):
        mean = x.mean(1, keepdim=True).expand_as(x)
        return self.proj(mean / self.temperature) + self.bias

    def extra_macs(self, hw_shape):
        return hw_shape[0] * hw_shape[1]

    def attention_weights(self, x, hw_shape, token):
        return x.new_full((len(x), 1, *hw_shape), 1 / x.shape[1])
'''
CONFIG = """
custom_imports = dict(imports=['mean_attention'])
model = dict(type='mmca.{type}', arch={arch}, attn='{attn}',
             attn_cfg=dict(mean=dict(temperature=2.0)))
"""
every_family = pytest.mark.parametrize(
    ('kind', 'arch', 'attn', 'paths', 'grids'),
    [
        ('PVT', PVT, 'MMSS', ['block1.0', 'block2.0'], [256, 64]),
        ('Swin', SWIN, 'MSMS', ['layers.0.blocks.0', 'layers.2.blocks.1'], [256, 256, 16, 16]),
        ('DeiT', DEIT, 'MMMS', ['blocks.0', 'blocks.2'], [16, 16, 16]),
    ],
)


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Build a backbone from a config file whose custom_imports name the plug-in."""
    (tmp_path / 'mean_attention.py').write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)

    def from_config(kind, arch, attn):
        path = tmp_path / 'config.py'
        path.write_text(CONFIG.format(type=kind, arch=arch, attn=attn))
        return MODELS.build(Config.fromfile(path).model)

    yield from_config
    unregister_attention('mean')
    del sys.modules['mean_attention']


@every_family
def test_is_used_trained_counted_and_measured(build, kind, arch, attn, paths, grids):
    model = build(kind, arch, attn)
    for path in paths:
        layer = model.get_submodule(path).attn
        assert (type(layer).__name__, layer.temperature) == ('MeanAttention', 2.0)
        assert model.get_submodule(path).cpe is None
    sum(out.square().sum() for out in model(torch.randn(2, 3, 72, 100))).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    model.eval()
    assert count_flops(model, torch.zeros(3, 3, 64, 64)).dft == 3 * sum(grids)
    seen = attention_inputs(model, torch.randn(1, 3, 64, 64))
    for path in paths:
        assert normalized_entropy(attention_matrices(seen[f'{path}.attn'])) == pytest.approx(1)


@every_family
def test_starts_from_softmax_weights(build, tmp_path, kind, arch, attn, paths, grids):
    model = build(kind, arch, attn)
    softmax = MODELS.build({'type': f'mmca.{kind}', 'arch': arch})
    torch.save(softmax.state_dict(), tmp_path / 'softmax.pth')
    assert 'unexpected' not in load_pretrained(model, tmp_path / 'softmax.pth')
    for path in paths:
        found, source = model.get_submodule(path).attn.proj, softmax.get_submodule(path).attn.proj
        assert torch.equal(found.weight, source.weight)


def test_is_exempt_from_weight_decay(build):
    from mmengine.optim import build_optim_wrapper

    model = build('Swin', SWIN, 'MSMS')
    cfg = {
        'type': 'OptimWrapper',
        'constructor': 'mmca.OptimWrapperConstructor',
        'optimizer': {'type': 'AdamW', 'lr': 1e-3, 'weight_decay': 0.1},
    }
    groups = build_optim_wrapper(model, cfg).optimizer.param_groups
    free = {id(p) for group in groups for p in group['params'] if group['weight_decay'] == 0}
    names = {name.split('.')[-1] for name, p in model.named_parameters() if id(p) in free}
    assert names == {'bias', 'relative_position_bias_table'}
    assert all('.attn.' in name for name, p in model.named_parameters() if id(p) in free)
