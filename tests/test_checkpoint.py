"""Reading checkpoints: original files by name, wrappers, wrong and damaged files."""

import io
import pickle

import numpy as np
import pytest
import torch

from mmca import safe_pickle
from mmca.backbones import CAPVT, PVT, CASwin, Swin
from mmca.checkpoint import load_pretrained, match, read_state_dict
from mmca.errors import InputError

PVT_ARCH = {
    'embed_dims': (8, 16, 24, 32),
    'depths': (1, 1, 1, 1),
    'num_heads': (1, 2, 3, 4),
    'mlp_ratios': (2, 2, 2, 2),
}
SWIN_ARCH = {'embed_dims': 8, 'depths': (1, 1, 2, 1), 'num_heads': (1, 2, 4, 8), 'mlp_ratio': 2}


def random_state(model):
    return {name: torch.randn_like(value) for name, value in model.state_dict().items()}


def pvt_classifier():
    """A file as the original PVT classification code writes it: a bare state dict."""
    state = random_state(PVT(PVT_ARCH))
    state['pos_embed4'] = torch.randn(1, 50, 32)
    state |= {
        'cls_token': torch.randn(1, 1, 32),
        'norm.weight': torch.randn(32),
        'norm.bias': torch.randn(32),
        'head.weight': torch.randn(10, 32),
        'head.bias': torch.randn(10),
    }
    return state


def swin_classifier():
    """A file as the original Swin code writes it: under 'model', with index buffers."""
    state = random_state(Swin(SWIN_ARCH))
    state = {k: v for k, v in state.items() if k[:5] not in ('norm0', 'norm1', 'norm2', 'norm3')}
    return state | {
        'layers.2.blocks.1.attn_mask': torch.zeros(4, 49, 49),
        'layers.0.blocks.0.attn.relative_position_index': torch.zeros(49, 49).long(),
        'norm.weight': torch.randn(64),
        'norm.bias': torch.randn(64),
        'head.weight': torch.randn(10, 64),
        'head.bias': torch.randn(10),
    }


def save(content, path):
    torch.save(content, path)
    return path


def test_original_pvt_loads_by_name(tmp_path):
    state, model = pvt_classifier(), PVT(PVT_ARCH)
    message = load_pretrained(model, save(state, tmp_path / 'pvt.pth'))
    for name, value in model.state_dict().items():
        expected = state[name][:, 1:] if name == 'pos_embed4' else state[name]
        assert torch.equal(value, expected), name
    assert '0 missing, 0 unexpected, 0 mismatched' in message
    for dropped in ('cls_token', 'head.weight', 'norm.bias', 'pos_embed4[0] (class token)'):
        assert dropped in message


def test_original_swin_loads_by_name(tmp_path):
    state, model = swin_classifier(), Swin(SWIN_ARCH)
    message = load_pretrained(model, save({'model': state, 'epoch': 3}, tmp_path / 'swin.pth'))
    for name, value in model.state_dict().items():
        if not name.startswith('norm'):
            assert torch.equal(value, state[name]), name
    # The classifier has no norm0..3 of the maps: they keep their initial values, and it is said.
    assert '8 missing, 0 unexpected' in message
    assert 'relative_position_index' in message


@pytest.mark.parametrize(
    ('cls', 'arch', 'state'),
    [(CAPVT, PVT_ARCH, pvt_classifier()), (CASwin, SWIN_ARCH, swin_classifier())],
)
def test_circulant_backbones_take_all_that_is_shared(cls, arch, state, tmp_path):
    model = cls(arch)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    message = load_pretrained(model, save(state, tmp_path / 'softmax.pth'))
    shared = 0
    for name, value in model.state_dict().items():
        if name in state and state[name].shape == value.shape:
            assert torch.equal(value, state[name]), name
            shared += 1
        elif name != 'pos_embed4':
            assert torch.equal(value, before[name]), name
    assert shared > len(before) / 2
    assert 'unexpected: ' in message


@pytest.mark.parametrize('wrap', [dict, lambda s: {'state_dict': s}, lambda s: {'model': s}])
@pytest.mark.parametrize('prefix', ['', 'module.', 'backbone.', 'module.backbone.'])
def test_wrappings(wrap, prefix, tmp_path):
    model = CAPVT(PVT_ARCH)
    state = random_state(model)
    others = {'rpn_head.weight': torch.zeros(1)} if 'backbone' in prefix else {}
    content = wrap({prefix + name: value for name, value in state.items()} | others)
    message = load_pretrained(model, save(content, tmp_path / 'wrapped.pth'))
    assert '0 missing, 0 unexpected' in message
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_positions_are_resized(tmp_path):
    state = random_state(PVT(PVT_ARCH, pretrain_img_size=64))
    state['pos_embed1'].fill_(3.0)
    model = PVT(PVT_ARCH)
    message = load_pretrained(model, save(state, tmp_path / 'small.pth'))
    torch.testing.assert_close(model.pos_embed1.data, torch.full((1, 56 * 56, 8), 3.0))
    assert '4 resized' in message
    wide = Swin({**SWIN_ARCH, 'window_size': 5})
    message = load_pretrained(wide, save(swin_classifier(), tmp_path / 'swin.pth'))
    assert '5 resized' in message


def test_matching_counts():
    model = torch.nn.Linear(3, 2)
    report = match({'weight': torch.zeros(4, 3), 'extra': torch.zeros(1)}, model)
    assert (report.loaded, report.missing, report.unexpected) == ([], ['bias'], ['extra'])
    assert report.mismatched == ['weight: file (4, 3), model (2, 3)']
    assert report.share == 0
    assert match(model.state_dict(), model).share == 1


def test_init_weights_loads_or_says_that_it_starts_from_scratch(tmp_path, monkeypatch):
    lines = []
    logger = type('Log', (), {'info': lines.append, 'warning': lines.append})
    monkeypatch.setattr('mmengine.logging.MMLogger.get_current_instance', lambda: logger)
    path = save(pvt_classifier(), tmp_path / 'pvt.pth')
    CAPVT(PVT_ARCH).init_weights()
    model = CAPVT(PVT_ARCH, init_cfg={'type': 'Pretrained', 'checkpoint': str(path)})
    model.init_weights()
    assert 'CAPVT: no pretrained weights, training starts from scratch' in lines[0]
    assert f'CAPVT: weights from {path}: ' in lines[1]
    assert torch.equal(model.block4[0].mlp.fc1.weight, torch.load(path)['block4.0.mlp.fc1.weight'])


def test_another_models_checkpoint_is_refused_and_nothing_is_lost(tmp_path):
    model = CAPVT(PVT_ARCH)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    path = save(swin_classifier(), tmp_path / 'swin.pth')
    with pytest.raises(InputError, match=r'does not fit CAPVT: 0 loaded, .* missing, .*unexpected'):
        load_pretrained(model, path)
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())


class Planted:
    """Writes a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


def test_bad_files_are_named_and_never_executed(tmp_path):
    good = save(pvt_classifier(), tmp_path / 'good.pth').read_bytes()
    (tmp_path / 'cut.pth').write_bytes(good[: len(good) // 2])
    (tmp_path / 'empty.pth').write_bytes(b'')
    (tmp_path / 'text.pth').write_text('not a checkpoint')
    (tmp_path / 'list.pth').write_bytes(pickle.dumps([1, 2]))
    save({'epoch': 1}, tmp_path / 'bare.pth')
    save([torch.zeros(1)], tmp_path / 'tensors.pth')
    names = ('cut', 'empty', 'text', 'list', 'bare', 'tensors', 'missing')
    for name in names:
        path = tmp_path / f'{name}.pth'
        with pytest.raises(InputError) as error:
            read_state_dict(path)
        assert str(path) in str(error.value)
        assert '\n' not in str(error.value)


class Node(dict):
    """A config node that is a dict, as yacs has them."""


@pytest.mark.parametrize('zipped', [True, False])
def test_foreign_objects_are_skipped_and_never_executed(zipped, tmp_path):
    config = Node(a=1)
    config.frozen = True
    content = {
        'model': pvt_classifier(),
        'config': config,
        'planted': [Planted(tmp_path / 'planted')],
        'best': np.float32(3),
        'optimizer': torch.optim.AdamW(PVT(PVT_ARCH).parameters()).state_dict(),
        'half': torch.zeros(2, dtype=torch.bfloat16),
    }
    path = tmp_path / 'training.pth'
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    state = read_state_dict(path)
    assert not (tmp_path / 'planted').exists()
    assert state.keys() == content['model'].keys()
    assert all(torch.equal(value, content['model'][name]) for name, value in state.items())


@pytest.mark.parametrize(
    ('module', 'name'),
    [('os', 'system'), ('torch', 'load'), ('torch', 'serialization.os.fakeStorage')],
)
def test_no_other_name_is_looked_up(module, name):
    unpickler = safe_pickle.Unpickler(io.BytesIO())
    assert unpickler.find_class(module, name) is safe_pickle.Inert
    assert unpickler.find_class('torch', 'FloatStorage') is torch.FloatStorage
    assert unpickler.find_class('torch', 'bfloat16') is torch.bfloat16
