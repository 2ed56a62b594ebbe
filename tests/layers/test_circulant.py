"""The circulant attention layer: the authors' numbers, options, refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mmca.layers import Block, CirculantAttention
from mmca.ops import naive

GOLDEN = Path(__file__).with_name('circulant_official.npz')


def test_reproduces_the_authors_release():
    """2 x 14 x 14 tokens; every 14th of the output and its gradient, by the authors' code."""
    golden = {name: torch.tensor(value) for name, value in np.load(GOLDEN).items()}
    layer = CirculantAttention(24)
    layer.load_state_dict({n[6:]: v for n, v in golden.items() if n.startswith('param:')})
    x = golden['x'].requires_grad_()
    y = layer(x, (14, 14))
    y.backward(golden['grad_y'])
    assert (y[:, ::14] - golden['y']).abs().max() <= 1e-5 * golden['y'].abs().max()
    gradients = {'grad_x': x.grad[:, ::14]} | {
        f'grad:{n}': p.grad for n, p in layer.named_parameters()
    }
    for name, gradient in gradients.items():
        assert (gradient - golden[name]).abs().max() <= 1e-4 * golden[name].abs().max(), name


@pytest.mark.parametrize('hw_shape', [(1, 1), (1, 13), (5, 5), (7, 4)])
@pytest.mark.parametrize('head_dim', [1, 4])
@pytest.mark.parametrize('reweighting', ['post', 'pre', None])
def test_equals_its_equations(hw_shape, head_dim, reweighting):
    layer = CirculantAttention(8, head_dim, reweighting, scale='paper').double()
    x = torch.randn(2, hw_shape[0] * hw_shape[1], 8, dtype=torch.float64)
    assert ('gate.0.weight' in layer.state_dict()) == bool(reweighting)
    q, k, v = F.linear(x, layer.qkv.weight).chunk(3, dim=2)
    gate = layer.gate(x) if reweighting else 1
    v = v * gate if reweighting == 'pre' else v
    out = naive.circulant_attention(q, k, v, hw_shape, head_dim, 'paper')
    out = out * gate if reweighting == 'post' else out
    torch.testing.assert_close(layer(x, hw_shape), layer.proj(out))


def test_dropout_acts_in_training_only():
    layer = CirculantAttention(8, proj_drop=0.5)
    x = torch.randn(1, 12, 8)
    assert (layer(x, (3, 4)) == 0).any()
    assert not (layer.eval()(x, (3, 4)) == 0).any()


@pytest.mark.parametrize('reentrant', [False, True])
def test_activation_checkpointing_changes_nothing(reentrant):
    block = Block(8, CirculantAttention(8), cpe=True).double()
    x = torch.randn(2, 35, 8, dtype=torch.float64, requires_grad=True)
    (plain,) = torch.autograd.grad(block(x, (5, 7)).square().sum(), x)
    checkpoint(block, x, (5, 7), use_reentrant=reentrant).square().sum().backward()
    torch.testing.assert_close(x.grad, plain)


def test_the_joint_projection_keeps_a_spectrum_and_the_kernels():
    layer, kept = CirculantAttention(16, reweighting=None), {}
    x = torch.randn(1, 30 * 32, 16)

    def keep(tensor):
        if tensor.dim() > 2:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(x, (30, 32))
    # The spectrum (17 of 16 columns), the kernels, and the attention's output for `proj`.
    assert sum(kept.values()) <= x.nbytes * (2 + 17 / 16)
