"""Reading checkpoints: original files by name, wrappings, grids, wrong, damaged, hostile files."""

import pickle
import sys
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from mmca.backbones import CAPVT, PVT, CADeiT, CASwin, DeiT, FLattenSwin, Swin
from mmca.checkpoint import (
    Report,
    load_pretrained,
    match,
    read_checkpoint,
    read_state_dict,
)
from mmca.checkpoint.softmax_init import start_from_softmax
from mmca.errors import InputError
from tests.tiny import PVT as PVT_ARCH
from tests.tiny import SHORT_SWIN

DEIT_ARCH = {'embed_dims': 12, 'depth': 2, 'num_heads': 3, 'mlp_ratio': 2}


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
    state = random_state(Swin(SHORT_SWIN))
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
    state, model = swin_classifier(), Swin(SHORT_SWIN)
    message = load_pretrained(model, save({'model': state, 'epoch': 3}, tmp_path / 'swin.pth'))
    for name, value in model.state_dict().items():
        # The classifier has no norm0..2 of the maps: they keep their initial values, and it is
        # said; its one norm stands where norm3 does.
        if not name.startswith(('norm0', 'norm1', 'norm2')):
            assert torch.equal(value, state[name.replace('norm3', 'norm')]), name
    assert '6 missing, 0 unexpected' in message
    assert 'missing: norm0.weight, norm0.bias, norm1.weight, norm1.bias, norm2' in message
    assert 'moved: norm.weight -> norm3.weight, norm.bias -> norm3.bias' in message
    assert 'layers.0.blocks.0.attn.relative_position_index' in message


def test_a_last_norm_does_not_displace_norm3(tmp_path):
    state = swin_classifier() | {'norm3.weight': torch.randn(64), 'norm.bias': torch.randn(32)}
    model = Swin(SHORT_SWIN)
    message = load_pretrained(model, save(state, tmp_path / 'swin.pth'))
    assert torch.equal(model.norm3.weight, state['norm3.weight'])
    assert '0 moved' in message
    assert 'norm.weight, norm.bias, head.weight, head.bias' in message.split('dropped: ')[1]
    assert 'missing: norm0' in message
    assert 'norm3.bias' in message.split('missing: ')[1]


@pytest.mark.parametrize(
    ('cls', 'arch', 'state'),
    [(CAPVT, PVT_ARCH, pvt_classifier()), (CASwin, SHORT_SWIN, swin_classifier())],
)
def test_circulant_backbones_take_all_that_is_shared(cls, arch, state, tmp_path):
    model = cls(arch)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    message = load_pretrained(model, save(state, tmp_path / 'softmax.pth'), gain=0.5)
    kept, converted = 0, start_from_softmax(state, model, gain=0.5)[0]
    for name, value in model.state_dict().items():
        if name in converted and converted[name].shape == value.shape:
            assert torch.equal(value, converted[name]), name
            kept += name in state and torch.equal(value, state[name])
        elif not name.startswith(('pos_embed4', 'norm')):
            assert torch.equal(value, before[name]), name
    assert kept > len(before) / 2
    assert '14 converted' in message  # seven tensors in each of two blocks
    assert 'cpe.bias' in message.split('converted: ')[1].splitlines()[0]
    assert '0 unexpected' in message
    assert '.attn.' in message.split('dropped: ')[1].splitlines()[0]


WRAPS = {
    'bare': dict,
    'state_dict': lambda s: {'state_dict': s, 'meta': {'epoch': 3}},
    'model': lambda s: {'model': s, 'optimizer': {'state': {}}},
    'module': lambda s: {'module': s},
    'nested': lambda s: {'state_dict': {'model': s, 'epoch': 3}, 'args': None},
    'config': lambda s: {'model': {'type': 'CAPVT'}, 'state_dict': s},
    'ema': lambda s: {'state_dict_ema': s},
    'model_ema': lambda s: {'model_ema': {'module': s}},
}
PREFIXES = ('', 'module.', 'backbone.', 'module.backbone.', 'model.', 'model.module.encoder.')


@pytest.mark.parametrize('wrap', WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize('prefix', PREFIXES)
def test_wrappings(wrap, prefix, tmp_path):
    model = CAPVT(PVT_ARCH)
    state = random_state(model)
    others = {'rpn_head.weight': torch.zeros(1)} if prefix else {}
    content = wrap({prefix + name: value for name, value in state.items()} | others)
    message = load_pretrained(model, save(content, tmp_path / 'wrapped.pth'))
    left = 1 if prefix == 'module.' else 0  # this one is taken off every name that has it
    assert f'0 missing, {left} unexpected' in message
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_whole_detector_keeps_its_names_and_gives_its_backbone(tmp_path):
    state = {f'backbone.{name}': value for name, value in random_state(PVT(PVT_ARCH)).items()}
    state['rpn_head.weight'] = torch.zeros(1)
    path = save({'state_dict': {f'module.{n}': v for n, v in state.items()}}, tmp_path / 'd.pth')
    assert read_state_dict(path).keys() == state.keys()
    number = len(state)
    message = load_pretrained(PVT(PVT_ARCH), path)
    assert (
        f"source: in 'state_dict', under 'backbone.' ({number - 1} of {number} tensors); "
        'names: original; family: PVT' in message
    )


def test_averaged_weights_are_named_and_not_taken(tmp_path):
    plain, averaged = ({'a': torch.full((2,), value)} for value in (1.0, 2.0))
    for keys in (('model', 'model_ema'), ('state_dict', 'state_dict_ema')):
        path = save({keys[1]: averaged, keys[0]: plain, 'epoch': 3}, tmp_path / 'ema.pth')
        checkpoint = read_checkpoint(path)
        assert checkpoint.tensors['a'][0] == 1
        assert (checkpoint.keys, checkpoint.skipped) == ((keys[0],), (keys[1], 'epoch'))
        assert f'averaged (EMA) weights in {keys[1]!r} were not taken' in checkpoint.place
    # mmengine's EMAHook puts the averages into 'state_dict'.
    path = save({'state_dict': averaged, 'ema_state_dict': plain}, tmp_path / 'ema.pth')
    assert read_checkpoint(path).tensors['a'][0] == 2
    assert "in 'state_dict'; averaged (EMA) by mmengine, the plain" in read_checkpoint(path).place
    alone = read_checkpoint(save({'model_ema': averaged}, tmp_path / 'ema.pth'))
    assert (alone.keys, alone.place) == (('model_ema',), "in 'model_ema'")


def test_other_trainers_files_do_not_crash(tmp_path):
    model = CAPVT(PVT_ARCH)
    state = random_state(model)
    lightning = {
        'state_dict': {f'model.encoder.{name}': value for name, value in state.items()},
        'pytorch-lightning_version': '2.0.0',
        'callbacks': {'ModelCheckpoint': {'best': torch.zeros(1)}},
        'hyper_parameters': {'model': 'capvt'},
        'loops': None,
    }
    selfsup = {
        'meta': {'version': 1},
        'state_dict': {f'encoder_q.0.{name}': value for name, value in state.items()}
        | {'queue': torch.zeros(4, 4), 'neck.fc.weight': torch.zeros(2, 2)}
        | {f'encoder_k.0.{name}': torch.zeros_like(value) for name, value in state.items()},
    }
    for content in (lightning, selfsup):
        message = load_pretrained(model, save(content, tmp_path / 'other.pth'))
        assert '0 missing, 0 unexpected' in message
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    endless = {'epoch': 1}
    endless['model'] = endless
    with pytest.raises(InputError, match='holds no tensors'):
        read_state_dict(save(endless, tmp_path / 'endless.pth'))


def test_renamed_weights_load_whole(tmp_path):
    """A Swin classifier of timm: its downsampling is one stage further on."""
    state = swin_classifier()
    timm = {
        name.replace(f'layers.{i}.downsample', f'layers.{i + 1}.downsample'): value
        for name, value in state.items()
        for i in [int(name.split('.')[1]) if name.startswith('layers') else 0]
    }
    timm['head.fc.weight'] = timm.pop('head.weight')
    model = Swin(SHORT_SWIN)
    message = load_pretrained(model, save(timm, tmp_path / 'timm.pth'))
    assert "names: timm's Swin; family: Swin" in message
    assert '6 missing, 0 unexpected, 0 mismatched' in message
    for i in range(3):
        name = f'layers.{i}.downsample.reduction.weight'
        assert torch.equal(model.state_dict()[name], state[name])


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
def test_safetensors_and_half_precision(suffix, dtype, tmp_path):
    state = {name: value.to(dtype) for name, value in pvt_classifier().items()}
    path = tmp_path / f'pvt{suffix}'
    save_file(state, path) if suffix == '.safetensors' else torch.save(state, path)
    assert {value.dtype for value in read_state_dict(path).values()} == {dtype}
    model = PVT(PVT_ARCH)
    assert '0 missing, 0 unexpected, 0 mismatched' in load_pretrained(model, path)
    for name, value in model.state_dict().items():
        assert value.dtype == torch.float32
        expected = state[name][:, 1:] if name == 'pos_embed4' else state[name]
        assert torch.equal(value, expected.float()), name


def test_safetensors_that_cannot_be_read(tmp_path, monkeypatch):
    path = tmp_path / 'pvt.safetensors'
    save_file(pvt_classifier(), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r'pvt\.safetensors: it is damaged') as error:
        read_state_dict(path)
    assert '\n' not in str(error.value)
    monkeypatch.setitem(sys.modules, 'safetensors.torch', None)
    with pytest.raises(InputError, match='pip install safetensors'):
        read_state_dict(path)


def test_positions_are_resized(tmp_path):
    state = random_state(PVT(PVT_ARCH, pretrain_img_size=64))
    state['pos_embed1'].fill_(3.0)
    model = PVT(PVT_ARCH)
    message = load_pretrained(model, save(state, tmp_path / 'small.pth'))
    torch.testing.assert_close(model.pos_embed1.data, torch.full((1, 56 * 56, 8), 3.0))
    assert '4 resized' in message
    wide = Swin({**SHORT_SWIN, 'window_size': 5})
    message = load_pretrained(wide, save(swin_classifier(), tmp_path / 'swin.pth'))
    assert '5 resized' in message


@pytest.mark.parametrize('extra', [0, 1, 2])
@pytest.mark.parametrize('side', [14, 8])
def test_deits_single_position_embedding(side, extra, tmp_path):
    """Class and distillation tokens stand before the grid and are no part of it."""
    model = DeiT(DEIT_ARCH)
    state = random_state(model) | {'head.weight': torch.zeros(10, 12)}
    grid = torch.randn(1, side**2, 12)
    state['pos_embed'] = torch.cat([torch.full((1, extra, 12), 1e3), grid], 1)
    state |= {'cls_token': torch.zeros(1, 1, 12)} if extra else {}
    state |= {'dist_token': torch.zeros(1, 1, 12)} if extra == 2 else {}
    state |= {'head_dist.bias': torch.zeros(10)} if extra == 2 else {}
    message = load_pretrained(model, save({'model': state}, tmp_path / 'deit.pth'))
    expected = F.interpolate(
        grid.mT.reshape(1, 12, side, side), (14, 14), mode='bilinear', align_corners=False
    )
    torch.testing.assert_close(model.pos_embed.data, expected.flatten(2).mT)
    assert torch.equal(model.norm.weight, state['norm.weight'])
    assert f'{int(side != 14)} resized' in message
    assert '0 missing, 0 unexpected, 0 mismatched' in message
    dropped = {
        0: 'dropped: head.weight\n',
        1: 'head.weight, cls_token',
        2: 'head.weight, cls_token, dist_token, head_dist.bias',
    }
    assert dropped[extra] in message + '\n'
    cut = {1: 'pos_embed[0] (class token)', 2: 'pos_embed[0:2] (class and distillation token)'}
    assert all((text in message) == (count == extra) for count, text in cut.items())


def test_positional_encodings_and_tables_are_resized(tmp_path):
    """A table of the parabola x^2 + y^2, which bicubic, but not bilinear, sampling keeps."""
    source = FLattenSwin(SHORT_SWIN, pretrain_img_size=64)
    state = random_state(source)
    name = 'layers.0.blocks.0.attn.positional_encoding'
    state[name] = torch.randn(1, 16 * 16, 8)
    table = 'layers.2.blocks.1.attn.relative_position_bias_table'
    steps = torch.linspace(-1, 1, 13)
    state[table] = (steps[:, None] ** 2 + steps**2).reshape(-1, 1).repeat(1, 4)
    model = FLattenSwin({**SHORT_SWIN, 'window_size': 9}, pretrain_img_size=128)
    message = load_pretrained(model, save(state, tmp_path / 'flatten.pth'))
    expected = F.interpolate(state[name].mT.reshape(1, 8, 16, 16), (32, 32), mode='bilinear')
    torch.testing.assert_close(model.state_dict()[name], expected.flatten(2).mT)
    steps = (torch.arange(17) + 0.5) * 13 / 17 / 6 - 6.5 / 6  # the new cells' centres
    parabola = steps[:, None] ** 2 + steps**2
    found = model.state_dict()[table][:, 0].reshape(17, 17)
    torch.testing.assert_close(found[4:-4, 4:-4], parabola[4:-4, 4:-4], atol=0.01, rtol=0)
    assert '5 resized' in message
    assert '0 missing, 0 unexpected, 0 mismatched' in message


def test_what_cannot_be_resized_is_mismatched(tmp_path):
    model = DeiT(DEIT_ARCH)
    for shape in [(1, 196, 24), (1, 199, 12), (1, 0, 12), (2, 49, 12), (196, 12)]:
        state = random_state(model) | {'pos_embed': torch.zeros(shape)}
        message = load_pretrained(model, save(state, tmp_path / 'deit.pth'))
        assert '0 resized, 0 dropped, 0 missing, 0 unexpected, 1 mismatched' in message
        assert f'mismatched: pos_embed: file {shape}, model (1, 196, 12)' in message


def test_matching_counts():
    model = torch.nn.Linear(3, 2)
    report = match({'weight': torch.zeros(4, 3), 'extra': torch.zeros(1)}, model)
    assert (report.loaded, report.missing, report.unexpected) == ([], ['bias'], ['extra'])
    assert report.mismatched == ['weight: file (4, 3), model (2, 3)']
    assert report.share == 0
    assert match(model.state_dict(), model).share == 1


def test_the_report_has_every_name_in_few_words():
    blocks = [f'block{i}.{j}.attn.q.weight' for i in (1, 2) for j in range(20)]
    report = Report(
        loaded=[*blocks, 'norm.weight'],
        missing=[f'layers.{i}.blocks.{j}.norm1.bias' for i in range(3) for j in range(4)],
        mismatched=[f'block3.{j}.mlp: file (4, 3), model (2, 3)' for j in (0, 1)],
        unexpected=['gate.0.bias'],
        source='a bare state dict',
    )
    assert str(report) == (
        '41 loaded, 0 moved, 0 converted, 0 resized, 0 dropped, 12 missing, 1 unexpected, '
        '2 mismatched\n'
        '  source: a bare state dict\n'
        '  loaded: block1.*.attn.q.weight (20), block2.*.attn.q.weight (20), norm.weight\n'
        '  missing: layers.*.blocks.*.norm1.bias (12)\n'
        '  unexpected: gate.0.bias\n'
        '  mismatched: block3.*.mlp: file (4, 3), model (2, 3) (2)'
    )
    assert report.counts == str(report).splitlines()[0]


def test_the_share_asked_for_is_kept(tmp_path):
    model = PVT(PVT_ARCH)
    state = random_state(model)
    number = len(state)
    path = save(dict(list(state.items())[: number // 4]), tmp_path / 'part.pth')
    share = number // 4 / number
    with pytest.raises(InputError) as error:
        load_pretrained(model, path)
    assert f'{share:.1%} of its tensors were found, at least 50.0% are asked' in str(error.value)
    assert '\n' not in str(error.value)
    assert load_pretrained(model, path, min_share=share)
    with pytest.raises(InputError, match=r'at least 100\.0%'):
        load_pretrained(model, path, min_share=1)


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


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'checkpoint': 'x.pth', 'prefix': 'backbone.'}, r"unknown keys \['prefix'\].*min_share"),
        ({}, 'names no checkpoint'),
        ({'checkpoint': None}, 'names no checkpoint'),
        ({'checkpoint': 'x.pth'}, 'checkpoint not found: x.pth'),
    ],
)
def test_a_wrong_init_cfg_is_named(options, message):
    with pytest.raises(InputError, match=message):
        PVT(PVT_ARCH, init_cfg={'type': 'Pretrained', **options}).init_weights()


def test_init_cfg_asks_for_a_share(tmp_path):
    state = {k: v for k, v in pvt_classifier().items() if not k.startswith('block4')}
    path = str(save(state, tmp_path / 'most.pth'))
    asked = {'type': 'Pretrained', 'checkpoint': path, 'min_share': 1.0}
    with pytest.raises(InputError, match=r'at least 100\.0% are asked for'):
        PVT(PVT_ARCH, init_cfg=asked).init_weights()
    PVT(PVT_ARCH, init_cfg={**asked, 'min_share': 0.6}).init_weights()


def test_another_models_checkpoint_is_refused_and_nothing_is_lost(tmp_path):
    model = CAPVT(PVT_ARCH)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    path = save(swin_classifier(), tmp_path / 'swin.pth')
    expected = r'does not fit CAPVT: 0 loaded, .* missing, .*unexpected.* looks like Swin weights'
    with pytest.raises(InputError, match=expected):
        load_pretrained(model, path)
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())


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


class Planted:
    """Runs a call when unpickled."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def planted_calls(target):
    """Ways of writing a file."""
    code = f"open({str(target)!r}, 'w').close()"
    return [
        Planted(open, (str(target), 'w')),
        Planted(exec, (code,)),
        Planted(eval, (f"__import__('os').system('touch {target}')",)),
        Planted(torch.save, ({}, str(target))),
    ]


def authors_checkpoint(state, target):
    """As the authors of CA-DeiT write theirs, yacs config and all, with calls planted in it.

    The config's class is gone afterwards, as it is for those who have no yacs.
    """
    module = types.ModuleType('vanished_yacs')
    exec('class CfgNode(dict): ...', module.__dict__)
    sys.modules['vanished_yacs'] = module
    config = module.CfgNode(MODEL=module.CfgNode(TYPE='ca_deit'), planted=planted_calls(target))
    config.__dict__['__immutable__'] = True
    parameters = torch.nn.Linear(2, 2).parameters()
    return {
        'model': state,
        'optimizer': torch.optim.AdamW(parameters).state_dict(),
        'lr_scheduler': {'base_values': [1e-3], 't': np.float64(3)},
        'max_accuracy': np.float32(75.0),
        'scaler': {'scale': 65536.0, '_growth_tracker': 0},
        'epoch': 299,
        'config': config,
        'planted': planted_calls(target),
    }


@pytest.mark.parametrize('zipped', [True, False])
def test_the_authors_files_load_and_nothing_is_executed(zipped, tmp_path):
    target, path = tmp_path / 'planted', tmp_path / 'ca_deit.pth'
    model = CADeiT(DEIT_ARCH)
    state = random_state(model)
    head = {'head.weight': torch.zeros(10, 12), 'head.bias': torch.zeros(10)}
    try:
        content = authors_checkpoint(state | head, target)
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
    finally:
        del sys.modules['vanished_yacs']
    checkpoint = read_checkpoint(path)
    assert checkpoint.keys == ('model',)
    assert set(checkpoint.skipped) == set(content) - {'model'}
    message = load_pretrained(model, path)
    assert not target.exists()
    assert '2 dropped, 0 missing, 0 unexpected, 0 mismatched' in message
    assert 'family: CA-DeiT' in message
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize('number', range(4))
@pytest.mark.parametrize('protocol', [0, 2, 4])
def test_a_bare_pickle_is_not_executed(number, protocol, tmp_path):
    """torch.load tries its old format on it, whose first parts it reads one by one."""
    target, path = tmp_path / 'planted', tmp_path / 'planted.pth'
    path.write_bytes(pickle.dumps(planted_calls(target)[number], protocol))
    with pytest.raises(InputError, match=r'planted\.pth'):
        read_state_dict(path)
    assert not target.exists()
    path.write_bytes(
        b''.join(
            pickle.dumps(item, 2)
            for item in (
                torch.serialization.MAGIC_NUMBER,
                torch.serialization.PROTOCOL_VERSION,
                planted_calls(target)[number],
                {'a': 1},
                [],
            )
        )
    )
    with pytest.raises(InputError, match='holds no tensors'):
        read_state_dict(path)
    assert not target.exists()


def test_code_and_whole_objects_are_refused(tmp_path, monkeypatch):
    """A TorchScript archive brings its own code, a pickled module names a class to be built."""
    path = tmp_path / 'script.pt'
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), path)
    monkeypatch.setattr(torch.jit, 'load', lambda *args, **kwargs: pytest.fail('code was loaded'))
    with pytest.raises(InputError, match='TorchScript archive'):
        read_state_dict(path)
    with pytest.raises(InputError, match='whole pickled object, which is not run'):
        read_state_dict(save(torch.nn.Linear(2, 2), tmp_path / 'whole.pth'))
