"""A calibrated student is nearer to its teacher, and only what had to change has changed."""

import pytest
import torch

from mmca.backbones import DeiT
from mmca.checkpoint import load_pretrained
from mmca.distill import calibrate
from mmca.layers import Attention, register_attention
from mmca.layers.attention import unregister_attention
from tests.tiny import DEIT


def pair(tmp_path, attn, **options):
    """A softmax teacher with a class token, and a student converted from it."""
    torch.manual_seed(0)
    teacher = DeiT(DEIT, with_cls_token=True)
    for parameter in teacher.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    torch.save(teacher.state_dict(), tmp_path / 'deit.pth')
    student = DeiT(DEIT, attn=attn, **options)
    load_pretrained(student, str(tmp_path / 'deit.pth'))
    return teacher.eval(), student.eval()


def errors(teacher, student, images):
    """Relative error of the output, per image."""
    with torch.no_grad():
        found, target = student(images)[0].flatten(1), teacher(images)[0].flatten(1)
    return (found - target).norm(dim=1) / target.norm(dim=1)


@pytest.mark.parametrize('options', [{}, {'with_cls_token': True}], ids=['dense', 'token'])
@pytest.mark.parametrize('attn', ['KKKK', 'SKSS', 'CCSS', 'LLLL'])
def test_the_error_falls_on_other_images(tmp_path, attn, options):
    if options and not set(attn) & set('SK'):
        pytest.skip('no block takes the token')
    teacher, student = pair(tmp_path, attn, **options)
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    images, others = torch.randn(2, 24, 3, 64, 48)
    start = errors(teacher, student, others)
    calibrate(student, teacher, images, ridge=0.1)
    assert errors(teacher, student, others).mean() < 0.9 * start.mean()
    after = student.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    first = 1 if attn == 'SKSS' else 0
    layers = {f'blocks.{i}.mlp.fc2.{x}' for i in range(first, 4) for x in ('weight', 'bias')}
    assert layers <= changed
    assert all(name.endswith('gains') for name in changed - layers)
    assert any(name.endswith('gains') for name in changed) == ('K' in attn)
    assert not any(module._forward_pre_hooks for module in student.modules())


def test_a_student_with_softmax_alone_stays_as_it_is(tmp_path):
    teacher, student = pair(tmp_path, 'S')
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    calibrate(student.train(), teacher, torch.randn(2, 3, 64, 48))
    assert student.training
    assert all(torch.equal(before[n], tensor) for n, tensor in student.state_dict().items())


def test_an_attention_sets_its_own_parameters(tmp_path):
    """It sees a few inputs and the softmax attention's outputs, special tokens included."""
    seen = []

    @register_attention('calibrated_example')
    class Calibrated(Attention):
        special_tokens = True

        def __init__(self, embed_dims):
            super().__init__()

        def forward(self, x, hw_shape):
            return x

        def calibrate(self, x, hw_shape, target):
            seen.append((x.shape, hw_shape, target.shape))

    try:
        attn = ['softmax', 'calibrated_example', 'softmax', 'softmax']
        teacher, student = pair(tmp_path, attn, with_cls_token=True)
        calibrate(student, teacher, torch.randn(2, 3, 64, 48))
    finally:
        unregister_attention('calibrated_example')
    assert seen == [((2, 13, 16), (4, 3), (2, 13, 16))]
