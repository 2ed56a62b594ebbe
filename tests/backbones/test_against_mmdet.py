"""PVT and Swin against mmdet's independent implementations, with mmdet's weights renamed.

Models are in evaluation mode, where drop rates have no effect.
"""

import pytest
import torch

from mmca.backbones import PVT, Swin
from mmca.checkpoint.key_mapping import to_original_names
from tests import tiny

mmdet_backbones = pytest.importorskip('mmdet.models.backbones')

# Stage grids at 200 x 328: PVT 50 x 82, 25 x 41, 12 x 20, 6 x 10 (floors), Swin 50 x 82, 25 x 41,
# 13 x 21, 7 x 11 (rounds up). mmdet's PVT floors as the original does, since its padding is 0 and
# not 'corner', so nothing has to be adjusted for odd grids.


def with_random_weights(model):
    """All parameters random, norms and biases too, so that none can be taken for another."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_norm = parameter.dim() == 1 and name.endswith('weight')
            # 1 / sqrt(inputs) keeps the activations, and so the rounding, of order 1.
            scale = 0.3 if parameter.dim() < 2 else parameter[0].numel() ** -0.5
            parameter.copy_(noise * scale + is_norm)
    model.eval()  # mmdet's Swin returns nothing here
    return model


def assert_same_maps(ours, theirs, hw_shape):
    state_dict, mapping = to_original_names(theirs.state_dict())
    assert mapping is not None
    buffers = [name for name in state_dict if name.endswith('relative_position_index')]
    ours.eval().load_state_dict({k: v for k, v in state_dict.items() if k not in buffers})
    x = torch.randn(1, 3, *hw_shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        maps, expected = ours(x), theirs(x)
    assert len(maps) == len(expected) == 4
    for ours_map, theirs_map in zip(maps, expected, strict=True):
        assert theirs_map.std() > 0.1
        torch.testing.assert_close(ours_map, theirs_map, atol=1e-4, rtol=0)


@pytest.mark.parametrize('hw_shape', [(224, 224), (200, 328)])
@pytest.mark.parametrize('arch', [tiny.PVT, 'tiny'], ids=['small', 'tiny'])
def test_pvt(arch, hw_shape):
    ours = PVT(arch)
    arch = ours.arch
    theirs = mmdet_backbones.PyramidVisionTransformer(
        embed_dims=arch['embed_dims'][0],
        num_layers=arch['depths'],
        num_heads=arch['num_heads'],
        mlp_ratios=arch['mlp_ratios'],
        sr_ratios=arch['sr_ratios'],
    )
    theirs = with_random_weights(theirs)
    # mmdet has eps 1e-6 in every LayerNorm; the original 1e-5, torch's default, in the patch
    # embedding and in the spatial reduction. What they normalise is made small, so that eps tells.
    for patch_embed, (_, *layers), _ in theirs.layers:
        reductions = [(item.attn.sr, item.attn.norm) for item in layers if item.attn.sr_ratio > 1]
        for conv, norm in [(patch_embed.projection, patch_embed.norm), *reductions]:
            norm.eps = 1e-5
            for parameter in conv.parameters():
                parameter.data.mul_(0.02)
    assert_same_maps(ours, theirs, hw_shape)


# No grid that fits into one window (7 x 7): there mmdet shifts and masks, while the original
# classifier, and mmca, take one window without shift.
@pytest.mark.parametrize('hw_shape', [(256, 320), (200, 328)])
def test_swin(hw_shape):
    theirs = mmdet_backbones.SwinTransformer(**tiny.SWIN)
    assert_same_maps(Swin(tiny.SWIN), with_random_weights(theirs), hw_shape)
