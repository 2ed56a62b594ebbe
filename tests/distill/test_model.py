"""What a student learns from a softmax teacher, and which of its parameters do."""

import re

import pytest
import torch
from mmengine.logging import MessageHub

from mmca.backbones import DeiT
from mmca.distill import Distiller
from tests.tiny import CSWIN, DEIT, PVT, SWIN

# (student, side of the images)
PAIRS = {
    'pvt': (dict(type='mmca.CAPVT', arch=PVT), 64),
    'linear_pvt': (dict(type='mmca.PVTv2', arch='b0', attn='LLSS', out_indices=(1, 3)), 64),
    'swin': (dict(type='mmca.CASwin', arch=SWIN), 64),
    'cswin': (dict(type='mmca.CSwin', arch=CSWIN, attn='CLSS'), 64),
    'deit': (dict(type='mmca.CADeiT', arch=DEIT, attn='CCSS', pos_embed=True), 48),
}


def build(name, tmp_path, **options):
    """A distiller whose two sides start from the same random weights."""
    config, side = PAIRS[name]
    torch.manual_seed(0)
    student = dict(config, drop_path_rate=0.0)
    student['init_cfg'] = dict(type='Pretrained', checkpoint=str(tmp_path / 'teacher.pth'))
    sizes = ((side, side), (side, side - 16))
    model = Distiller(student, dict(student, attn='S'), sizes=sizes, **options)
    state = model.teacher.state_dict()
    for path, tensor in state.items():
        if path.endswith(('qkv.weight', 'q.weight', 'kv.weight', 'attn.proj.weight')):
            tensor.normal_(std=0.5)  # far from uniform attention, which all kinds have in common
    torch.save(state, tmp_path / 'teacher.pth')
    model.init_weights()
    return model.train(), torch.randn(2, 3, side, side)


def learn(model, images):
    """The losses of forty steps on the same crop."""
    # At 1e-3 the shifted windows' loss rises and falls with the rounding of a sum.
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-4)
    losses = []
    for _ in range(40):
        torch.manual_seed(0)
        (loss,) = model(images, mode='loss').values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.fixture
def at_iteration():
    """Set the iteration that the model looks up."""
    hub = MessageHub.get_current_instance()
    yield lambda number: hub.update_info('iter', number)
    hub.update_info('iter', 0)


@pytest.mark.parametrize('name', PAIRS)
@pytest.mark.parametrize('iteration', [0, 1])
def test_both_parts_learn(name, iteration, tmp_path, at_iteration):
    model, images = build(name, tmp_path, block_iters=1)
    at_iteration(iteration)
    before = {n: p.clone() for n, p in model.named_parameters()}
    losses = learn(model, images)
    assert losses[-1] < 0.95 * losses[0]
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    trained = {f'student.{path}' for path in model.changed}
    own = {re.split(r'\.attn\.|\.attns\.', name)[0] for name in changed if '.attn' in name}
    assert own == trained
    assert all(n.startswith(tuple(f'{path}.' for path in trained)) for n in changed)


def test_a_student_equal_to_its_teacher_has_no_loss(tmp_path, at_iteration):
    model, images = build('deit', tmp_path, block_iters=1)
    model.student = DeiT(DEIT, drop_path_rate=0.0)
    model.student.load_state_dict(model.teacher.state_dict())
    for iteration in (0, 1):
        at_iteration(iteration)
        (loss,) = model.train()(images, mode='loss').values()
        assert loss.item() < 1e-12
    first, second = model.eval()(images, mode='predict')
    assert first['output0/error'] < 1e-6
    assert second['blocks.3/cosine'] == pytest.approx(1)


@pytest.mark.parametrize(
    ('train', 'parts', 'blocks'),
    [
        ('attention', {'attn', 'norm1', 'cpe'}, {'0', '1'}),
        ('blocks', {'attn', 'norm1', 'cpe', 'norm2', 'mlp'}, {'0', '1'}),
        ('all', {'attn', 'norm1', 'cpe', 'norm2', 'mlp'}, {'0', '1', '2', '3'}),
    ],
)
def test_what_is_trained(train, parts, blocks, tmp_path):
    model, images = build('deit', tmp_path, train=train, block_iters=9)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert all(n.startswith('student.') for n in trained)
    names = [n.split('.') for n in trained if '.blocks.' in n]
    assert {n[3] for n in names} == parts
    assert {n[2] for n in names} == blocks
    assert (train == 'all') == ('student.pos_embed' in trained)
    model(images, mode='loss')['loss_blocks'].backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_a_softmax_student_learns_what_the_class_token_brings(tmp_path):
    torch.manual_seed(0)
    teacher = DeiT(DEIT, with_cls_token=True)
    for parameter in teacher.parameters():
        torch.nn.init.normal_(parameter, std=0.5)  # so that the token matters
    torch.save(teacher.state_dict(), tmp_path / 'deit.pth')
    weights = dict(type='Pretrained', checkpoint=str(tmp_path / 'deit.pth'))
    student = dict(type='mmca.DeiT', arch=DEIT, drop_path_rate=0.0, init_cfg=weights)
    model = Distiller(student, dict(student, with_cls_token=True), train='all', sizes=[(48, 48)])
    model.init_weights()
    losses = learn(model.train(), torch.randn(2, 3, 48, 48))
    assert 0 < losses[-1] < 0.9 * losses[0]
