"""DeiT's class token and position embedding."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmca.backbones import CADeiT, DeiT
from mmca.checkpoint import load_pretrained, read_checkpoint
from tests.tiny import DEIT

SHARED = Path(__file__).parents[3] / 'shared'
WEIGHTS = SHARED / 'weights/deit_tiny_imagenet.pth'
IMAGES = SHARED / 'data/imagenet_samples'


def test_the_class_token_goes_through_every_block_as_in_the_original():
    model = DeiT(DEIT, with_cls_token=True, out_type='cls_token').double().eval()
    image = torch.randn(2, 3, 224, 224, dtype=torch.float64)
    patches, _ = model.patch_embed(image)
    tokens = torch.cat([model.cls_token.expand(2, -1, -1), patches], 1) + model.pos_embed
    for block in model.blocks:
        tokens = block(tokens, (1, 197))
    expected = torch.nn.functional.layer_norm(
        tokens, (16,), model.norm.weight, model.norm.bias, 1e-6
    )
    (found,) = model(image)
    torch.testing.assert_close(found, expected[:, 0], rtol=1e-12, atol=1e-12)
    model.out_type = 'featmap'
    (found,) = model(image)
    torch.testing.assert_close(found.flatten(2).mT, expected[:, 1:], rtol=1e-12, atol=1e-12)


def test_the_class_token_skips_attention_that_takes_none():
    model = DeiT(DEIT, attn='CCSS', with_cls_token=True).eval()
    image = torch.randn(1, 3, 70, 100)
    seen = []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda _, args: seen.append((args[0].shape[1], args[1])))
    (found,) = model(image)
    assert seen == [(35, (5, 7))] * 2 + [(36, (5, 7))] * 2
    with torch.no_grad():
        model.cls_token += 1
    assert not torch.equal(model(image)[0], found)


def test_every_parameter_of_a_class_token_model_trains():
    model = DeiT(DEIT, attn='CSLS', with_cls_token=True, pos_embed=True, drop_path_rate=0.0)
    model(torch.randn(2, 3, 32, 48))[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
    frozen = DeiT(DEIT, with_cls_token=True, frozen_stages=0)
    names = {n.split('.')[0] for n, p in frozen.named_parameters() if not p.requires_grad}
    assert names == {'patch_embed', 'pos_embed', 'cls_token'}


def test_the_constructor_decides_on_a_position_embedding():
    """And opens no file for it."""
    assert CADeiT(DEIT, init_cfg=dict(type='Pretrained', checkpoint='absent.pth')).pos_embed is None
    assert DeiT(DEIT, pos_embed=False).pos_embed is None
    assert DeiT(DEIT, pretrain_img_size=384).pos_embed.shape == (1, 576, 16)
    model = CADeiT(DEIT, pos_embed=True)
    assert model.pos_embed.shape == (1, 196, 16)
    with pytest.raises(RuntimeError, match='pos_embed'):
        CADeiT(DEIT).load_state_dict(model.state_dict())


@pytest.mark.slow
@pytest.mark.skipif(not WEIGHTS.exists(), reason='needs the real weights and images')
def test_real_weights_classify_real_images():
    """780 right, 938 among the first five: figures of an independent implementation."""
    model = DeiT('tiny', with_cls_token=True, out_type='cls_token').eval()
    load_pretrained(model, WEIGHTS)
    tensors = read_checkpoint(WEIGHTS).tensors
    head = tensors['head.weight'], tensors['head.bias']
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    files = sorted(IMAGES.glob('*/*/*'), key=lambda path: path.parent.name)
    right = among_five = 0
    for label, path in enumerate(files):
        image = np.asarray(Image.open(path).convert('RGB'))
        top, left = ((side - 224) // 2 for side in image.shape[:2])
        image = (image[top : top + 224, left : left + 224] - mean) / std
        with torch.no_grad():
            (token,) = model(torch.from_numpy(image).float().permute(2, 0, 1)[None])
        five = torch.nn.functional.linear(token, *head)[0].topk(5).indices.tolist()
        right += five[0] == label
        among_five += label in five
    assert (right, among_five) == (780, 938)
