"""Loading third-party checkpoints: names, wrappings, grids, position embeddings, wrong files."""

import copy
import re

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from mmca.backbones import CAPVT, PVT, CADeiT, CASwin, CSwin, DeiT, FLattenSwin, Swin
from mmca.checkpoint import Report, deit_options, load_pretrained, read_checkpoint
from mmca.checkpoint.softmax_init import start_from_softmax
from mmca.errors import InputError
from tests.tiny import CSWIN, SHORT_SWIN
from tests.tiny import PVT as PVT_ARCH

DEIT_ARCH = {'embed_dims': 12, 'depth': 2, 'num_heads': 3, 'mlp_ratio': 2}

PROBLEMS = re.compile(r'\d+ (?:missing|unexpected|mismatched)')


def random_state(model):
    return {name: torch.randn_like(value) for name, value in model.state_dict().items()}


def classifier(cls, arch, **others):
    """A file of the original code: one norm, after the last stage, and a head."""
    state = {k: v for k, v in random_state(cls(arch)).items() if not re.match(r'norm\d', k)}
    dims = 32 if cls is PVT else 64
    state |= {f'norm.{kind}': torch.randn(dims) for kind in ('weight', 'bias')}
    return state | {'head.weight': torch.randn(10, dims), 'head.bias': torch.randn(10)} | others


def pvt_classifier():
    tokens = {'cls_token': torch.randn(1, 1, 32), 'pos_embed4': torch.randn(1, 50, 32)}
    return classifier(PVT, PVT_ARCH, **tokens)


def swin_classifier():
    index, mask = 'layers.0.blocks.0.attn.relative_position_index', 'layers.2.blocks.1.attn_mask'
    buffers = {index: torch.zeros(49, 49).long(), mask: torch.zeros(4, 49, 49)}
    return classifier(Swin, SHORT_SWIN, **buffers)


def save(content, path):
    (save_file if path.suffix == '.safetensors' else torch.save)(content, path)
    return path


def assert_loaded(model, state):
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name].float()), name


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
def test_original_pvt_loads_by_name(suffix, dtype, tmp_path):
    state, model = pvt_classifier(), PVT(PVT_ARCH)
    state = {name: value.to(dtype) for name, value in state.items()}
    path = save(state, tmp_path / f'pvt{suffix}')
    assert {t.dtype for t in read_checkpoint(path).tensors.values()} == {dtype}
    message = load_pretrained(model, path)
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
    assert_loaded(model, state | {'pos_embed4': state['pos_embed4'][:, 1:]})
    assert not PROBLEMS.search(message)
    for dropped in ('cls_token', 'head.weight', 'norm.bias', 'pos_embed4[0:1] (class token)'):
        assert dropped in message


@pytest.mark.parametrize(
    ('model', 'state', 'key', 'last'),
    [
        (Swin(SHORT_SWIN), swin_classifier(), 'model', 'norm3'),
        (CSwin(CSWIN), classifier(CSwin, CSWIN), 'state_dict_ema', 'norm4'),
    ],
)
def test_a_classifiers_norm_becomes_the_last_stages(model, state, key, last, tmp_path):
    message = load_pretrained(model, save({key: state, 'epoch': 3}, tmp_path / 'x.pth'))
    for name, value in model.state_dict().items():
        if name.startswith(last) or not re.match(r'norm\d', name):
            assert torch.equal(value, state[name.replace(last, 'norm')]), name
    assert ', 6 missing\n' in message
    assert f'moved: norm.weight -> {last}.weight, norm.bias -> {last}.bias' in message
    assert f'names: original; family: {type(model).__name__}' in message
    assert ('attn.relative_position_index' in message) == (last == 'norm3')


@pytest.mark.parametrize(
    ('cls', 'arch', 'state'),
    [(CAPVT, PVT_ARCH, pvt_classifier()), (CASwin, SHORT_SWIN, swin_classifier())],
)
def test_circulant_backbones_take_all_that_is_shared(cls, arch, state, tmp_path):
    model = cls(arch)
    message = load_pretrained(model, save(state, tmp_path / 'softmax.pth'))
    converted = start_from_softmax(state, model)[0]
    for name, value in model.state_dict().items():
        if not name.startswith(('pos_embed4', 'norm')):
            assert torch.equal(value, converted[name]), name
    assert '14 converted' in message  # seven tensors in each of two blocks
    assert 'cpe.bias' in message.split('converted: ')[1].splitlines()[0]
    assert 'unexpected' not in message
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
PREFIXES = ('', 'module.', 'backbone.', 'module.backbone.', 'encoder_q.0.', 'model.module.encoder.')


@pytest.mark.parametrize('wrap', WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize('prefix', PREFIXES)
def test_wrappings(wrap, prefix, tmp_path):
    model = CAPVT(PVT_ARCH)
    state = random_state(model)
    others = {'my_patch_embed.proj.weight': torch.zeros(1)} if prefix else {}
    content = wrap(others | {prefix + name: value for name, value in state.items()})
    message = load_pretrained(model, save(content, tmp_path / 'wrapped.pth'))
    # This one is taken off every name that has it.
    assert PROBLEMS.findall(message)[:1] == (['1 unexpected'] if prefix == 'module.' else [])
    assert_loaded(model, state)


def test_averaged_weights_are_mentioned_and_not_taken(tmp_path):
    plain, averaged = ({'a': torch.full((2,), value)} for value in (1.0, 2.0))
    for keys in (('model', 'model_ema'), ('state_dict', 'ema_state_dict')):
        path = save({keys[1]: averaged, keys[0]: plain, 'epoch': 3}, tmp_path / 'ema.pth')
        checkpoint = read_checkpoint(path)
        assert checkpoint.tensors['a'][0] == 1
        assert (checkpoint.keys, checkpoint.skipped) == ((keys[0],), (keys[1], 'epoch'))
        assert checkpoint.place == f"in '{keys[0]}'; '{keys[1]}' not loaded"
    alone = read_checkpoint(save({'model_ema': averaged}, tmp_path / 'ema.pth'))
    assert (alone.keys, alone.place) == (('model_ema',), "in 'model_ema'")


@pytest.mark.parametrize('with_cls_token', [False, True])
@pytest.mark.parametrize('extra', [0, 1, 2])
@pytest.mark.parametrize('side', [14, 8])
def test_deits_single_position_embedding(side, extra, with_cls_token, tmp_path):
    """Class and distillation tokens stand before the grid and are no part of it."""
    if with_cls_token and not extra:
        pytest.skip('the file lacks a class token')
    model = DeiT(DEIT_ARCH, with_cls_token=with_cls_token)
    grid, tokens = torch.randn(1, side**2, 12), torch.randn(1, extra, 12)
    state = random_state(DeiT(DEIT_ARCH)) | {'head.weight': torch.zeros(10, 12)}
    state['pos_embed'] = torch.cat([tokens, grid], 1)
    others = {'cls_token': torch.randn(1, 1, 12)} if extra else {}
    if extra == 2:
        others |= {'dist_token': torch.zeros(1, 1, 12), 'head_dist.bias': torch.zeros(10)}
    message = load_pretrained(model, save({'model': state | others}, tmp_path / 'deit.pth'))
    expected = F.interpolate(
        grid.mT.reshape(1, 12, side, side), (14, 14), mode='bilinear', align_corners=False
    )
    positions = torch.cat([tokens[:, : int(with_cls_token)], expected.flatten(2).mT], 1)
    torch.testing.assert_close(model.pos_embed.data, positions)
    assert torch.equal(model.norm.weight, state['norm.weight'])
    if with_cls_token:
        assert torch.equal(model.cls_token, others.pop('cls_token'))
    assert ('1 resized' in message) == (side != 14)
    assert not PROBLEMS.search(message)
    kinds = ('class', 'distillation')[with_cls_token:extra]
    cut = f'pos_embed[{int(with_cls_token)}:{extra}] ({" and ".join(kinds)} token)'
    dropped = {'head.weight', *others, *([cut] if kinds else [])}
    assert set(message.split('dropped: ')[1].splitlines()[0].split(', ')) == dropped


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
    assert not PROBLEMS.search(message)


def test_what_cannot_be_resized_is_mismatched(tmp_path):
    model = DeiT(DEIT_ARCH)
    for shape in [(1, 196, 24), (1, 199, 12), (1, 0, 12), (2, 49, 12), (196, 12)]:
        state = random_state(model) | {'pos_embed': torch.zeros(shape)}
        message = load_pretrained(model, save(state, tmp_path / 'deit.pth'))
        assert message.splitlines()[0].endswith(' loaded, 1 mismatched')
        assert f'mismatched: pos_embed: file {shape}, model (1, 196, 12)' in message


def test_the_report_abbreviates_names():
    report = Report(loaded=['block1.0.fc.bias', 'block1.1.fc.bias', 'norm.bias'], source='a file')
    counts, *lines = str(report).splitlines()
    assert counts == '3 loaded'
    assert lines == ['  source: a file', '  loaded: block1.*.fc.bias (2), norm.bias']


def test_the_required_share(tmp_path):
    model = PVT(PVT_ARCH)
    state = random_state(model)
    number = len(state) // 4
    path = save(dict(list(state.items())[:number]), tmp_path / 'part.pth')
    share = number / len(state)
    with pytest.raises(InputError, match=rf'fills {share:.1%} of the tensors, at least 50\.0%'):
        load_pretrained(model, path)
    assert load_pretrained(model, path, min_share=share)


def test_another_models_checkpoint_changes_nothing(tmp_path):
    model = CAPVT(PVT_ARCH)
    before = copy.deepcopy(model.state_dict())
    path = save(swin_classifier(), tmp_path / 'swin.pth')
    expected = r'does not fit CAPVT: 0 loaded, .* missing, .*unexpected.* looks like Swin weights'
    with pytest.raises(InputError, match=expected):
        load_pretrained(model, path)
    assert_loaded(model, before)


def test_init_weights(tmp_path):
    path = save(pvt_classifier(), tmp_path / 'pvt.pth')
    model = CAPVT(PVT_ARCH, init_cfg={'type': 'Pretrained', 'checkpoint': str(path)})
    model.init_weights()
    assert torch.equal(model.block4[0].mlp.fc1.weight, torch.load(path)['block4.0.mlp.fc1.weight'])
    CAPVT(PVT_ARCH).init_weights()
    for options, kind, message in (
        ({'checkpoint': 'x.pth'}, InputError, r'checkpoint not found: x\.pth'),
        ({'checkpoint': str(path), 'min_share': 1.1}, InputError, r'at least 110\.0%'),
        ({'checkpoint': str(path), 'prefix': 'x'}, InputError, "no tensor .* begins with 'x'"),
    ):
        with pytest.raises(kind, match=message):
            PVT(PVT_ARCH, init_cfg={'type': 'Pretrained', **options}).init_weights()


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_position_embeddings_must_agree(prefix, tmp_path):
    softmax = DeiT(DEIT_ARCH, with_cls_token=True)
    path = tmp_path / 'deit.pth'
    save({prefix + name: value for name, value in softmax.state_dict().items()}, path)
    assert deit_options(read_checkpoint(path)) == {'pos_embed': True, 'with_cls_token': True}
    with pytest.raises(InputError, match=r'deit\.pth contains a .* set .*\.pos_embed=True$'):
        load_pretrained(CADeiT(DEIT_ARCH), path)
    model = CADeiT(DEIT_ARCH, pos_embed=True)
    load_pretrained(model, path)
    assert torch.equal(model.pos_embed, softmax.pos_embed[:, 1:])

    save({prefix + k: v for k, v in CADeiT(DEIT_ARCH).state_dict().items()}, path)
    assert deit_options(read_checkpoint(path)) == {'pos_embed': False, 'with_cls_token': False}
    with pytest.raises(InputError, match=r'lacks the .* set .*\.pos_embed=False$'):
        load_pretrained(model, path)


def test_a_prefix_selects_the_backbone_as_in_the_libraries(tmp_path):
    teacher, student = CAPVT(PVT_ARCH).state_dict(), CAPVT(PVT_ARCH).state_dict()
    both = {
        f'{kind}.{name}': t
        for kind, own in (('s', student), ('t', teacher))
        for name, t in own.items()
    }
    path = save({'state_dict': both}, tmp_path / 'both.pth')
    for prefix in ('t', 't.'):
        init_cfg = {'type': 'Pretrained', 'checkpoint': str(path), 'prefix': prefix}
        model = CAPVT(PVT_ARCH, init_cfg=init_cfg)
        model.init_weights()
        assert_loaded(model, teacher)


@pytest.mark.parametrize('name', ['model_state_dict', 'net', 'params_ema'])
def test_a_state_dict_under_any_name(name, tmp_path):
    """As training loops of their own save it, perhaps compiled, beside their optimizer."""
    weights = {'_orig_mod.fc.weight': torch.ones(2, 2)}
    optimizer = {'state': {0: {'exp_avg': torch.zeros(2, 2)}}, 'param_groups': []}
    path = save({'epoch': 1, name: weights, 'optimizer_state_dict': optimizer}, tmp_path / 'a.pth')
    assert list(read_checkpoint(path).tensors) == ['fc.weight']
    path = save({name: weights, 'teacher': weights}, tmp_path / 'b.pth')
    with pytest.raises(InputError, match=f'several state dicts: {name}, teacher; save one alone'):
        read_checkpoint(path)


def test_bad_files_are_named(tmp_path):
    """See also test_safe_unpickle.py."""
    with pytest.raises(InputError, match=r'checkpoint not found: .*/missing\.pth'):
        read_checkpoint(tmp_path / 'missing.pth')
    (tmp_path / 'text.pth').write_text('not a checkpoint')
    with pytest.raises(InputError, match=r'^cannot read the checkpoint .*/text\.pth: it is dam'):
        read_checkpoint(tmp_path / 'text.pth')
    endless = {'epoch': 1}
    endless['model'] = endless
    for content in ({'epoch': 1}, [torch.zeros(1)], endless):
        with pytest.raises(InputError, match='contains no tensors'):
            read_checkpoint(save(content, tmp_path / 'odd.pth'))
    with pytest.raises(InputError, match='is a pickled object'):
        read_checkpoint(save(torch.nn.Linear(2, 2), tmp_path / 'whole.pth'))
