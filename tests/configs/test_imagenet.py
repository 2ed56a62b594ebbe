"""The ImageNet configs: what they say, their size, a step, a prediction, their way on."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, METRICS, MODELS, PARAM_SCHEDULERS, init_default_scope
from mmengine.runner import Runner
from PIL import Image
from torch import Tensor, nn

from mmca.backbones import CAPVT
from mmca.checkpoint import load_pretrained
from tools.mini import make_mini
from mmca.engine import no_torchvision
from mmca.layers import DropPath
from tests.helpers import CONFIGS as CONFIG_ROOT
from tests.helpers import declared_parameters

# Not importorskip: an mmpretrain that is there and cannot be imported is a failure.
if find_spec('mmpretrain') is None:
    pytest.skip('needs requirements-pretrain.txt', allow_module_level=True)

no_torchvision.stand_in()

from mmpretrain.structures import DataSample  # noqa: E402

# name: (type, arch, drop path, channels, blocks, published parameters in M)
CONFIGS = {
    'ca_pvt_t': ('CAPVT', 'tiny', 0.1, 512, 8, 12.2),
    'ca_pvt_s': ('CAPVT', 'small', 0.1, 512, 16, 22.8),
    'ca_pvt_m': ('CAPVT', 'medium', 0.3, 512, 28, 42.5),
    'ca_pvt_l': ('CAPVT', 'large', 0.3, 512, 41, 58.6),
    'ca_swin_t': ('CASwin', 'tiny', 0.2, 768, 12, 28),
    'ca_swin_s': ('CASwin', 'small', 0.3, 768, 24, 50),
    'ca_swin_b': ('CASwin', 'base', 0.5, 1024, 24, 88),
    'ca_deit_t': ('CADeiT', 'tiny', 0.1, 192, 12, 6.1),
    'ca_deit_s': ('CADeiT', 'small', 0.1, 384, 12, 23.8),
    'ca_deit_b': ('CADeiT', 'base', 0.1, 768, 12, 93.6),
    'deit_t': ('DeiT', 'tiny', 0.1, 192, 12, 5.7),
    'deit_s': ('DeiT', 'small', 0.1, 384, 12, 22.1),
    'deit_b': ('DeiT', 'base', 0.1, 768, 12, 86.6),
}
# What makes two blocks a stage, or in all, of the full width.
SHRUNK = {
    'CAPVT': dict(depths=(1, 1, 1, 1)),
    'CASwin': dict(depths=(1, 1, 1, 1)),
    'CADeiT': dict(depth=2),
    'DeiT': dict(depth=2),
}

every_config = pytest.mark.parametrize('name', CONFIGS)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def load(name: str) -> Config:
    """A config, its library's scope switched on."""
    cfg = Config.fromfile(CONFIG_ROOT / f'{name}.py')
    init_default_scope(cfg.default_scope)
    return cfg


def shrink(name: str) -> Config:
    """A config with few blocks and no stochastic depth; all widths as they are."""
    cfg = load(f'imagenet/{name}')
    backbone = MODELS.build(cfg.model).backbone
    cfg.model.backbone.arch = {**backbone.arch, **SHRUNK[CONFIGS[name][0]]}
    cfg.model.backbone.drop_path_rate = 0.0
    return cfg


def demo_data(number: int, side: int = 64) -> dict:
    """A batch of noise with labels, as mmpretrain's data loader gives it."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (number, 3, side, side), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 1000, (number,), generator=generator).tolist()
    samples = [DataSample(metainfo={'num_classes': 1000}).set_gt_label(n) for n in labels]
    return {'inputs': images, 'data_samples': samples}


def test_the_configs_are_those_of_the_table():
    assert {path.stem for path in (CONFIG_ROOT / 'imagenet').glob('*.py')} == set(CONFIGS)


@every_config
def test_recipe(name):
    family, arch, drop_path, channels, *_ = CONFIGS[name]
    cfg = load(f'imagenet/{name}')
    backbone = dict(type=f'mmca.{family}', arch=arch, drop_path_rate=drop_path)
    if 'DeiT' not in family:
        backbone['out_indices'] = (3,)
    if family == 'DeiT':
        backbone |= dict(with_cls_token=True, out_type='cls_token')
    assert cfg.model.backbone == backbone
    assert cfg.model.head.in_channels == channels
    assert cfg.model.head.num_classes == cfg.model.data_preprocessor.num_classes == 1000
    assert cfg.model.head.loss == dict(type='LabelSmoothLoss', label_smooth_val=0.1)
    assert cfg.model.train_cfg == dict(
        augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]
    )

    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-3, 0.05)
    assert cfg.optim_wrapper.clip_grad == {'max_norm': 5.0}
    assert cfg.train_cfg.max_epochs == 300
    assert cfg.train_dataloader.batch_size * 8 == 1024
    assert cfg.auto_scale_lr == {'enable': False, 'base_batch_size': 1024}
    assert cfg.train_dataloader.persistent_workers is False  # SeedHook
    assert cfg.custom_hooks == [{'type': 'mmca.SeedHook'}]
    assert cfg.default_hooks.checkpoint.save_best == 'accuracy/top1'
    assert cfg.load_from is None

    steps = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    assert list(steps) == [
        'LoadImageFromFile',
        'RandomResizedCrop',
        'RandomFlip',
        'RandAugment',
        'RandomErasing',
        'PackInputs',
    ]
    assert (steps['RandomResizedCrop'].scale, steps['RandomErasing'].erase_prob) == (224, 0.25)
    assert (steps['RandAugment'].num_policies, steps['RandAugment'].magnitude_level) == (2, 9)
    _, resize, crop, _ = cfg.test_dataloader.dataset.pipeline
    assert (resize.scale, resize.edge, resize.interpolation) == (256, 'short', 'bicubic')
    assert crop == dict(type='CenterCrop', crop_size=224)
    assert METRICS.build(cfg.test_evaluator).topk == (1, 5)


def test_learning_rate_over_the_epochs():
    cfg = load('imagenet/ca_pvt_t')
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-3)
    length = 2  # iterations an epoch
    schedulers = [
        PARAM_SCHEDULERS.build(item, default_args=dict(optimizer=optimizer, epoch_length=length))
        for item in cfg.param_scheduler
    ]
    rates = []
    for _ in range(300 * length):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert rates[0] == pytest.approx(1e-6)
    assert rates[20 * length] == pytest.approx(1e-3)
    assert max(rates) == pytest.approx(1e-3)
    assert rates[160 * length] == pytest.approx((1e-3 + 1e-5) / 2)
    assert rates[-1] == pytest.approx(1e-5, rel=0.01)


@every_config
def test_size_is_the_published(name):
    family, _, drop_path, _, blocks, millions = CONFIGS[name]
    cfg = load(f'imagenet/{name}')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert type(model.backbone).__name__ == family
    number = sum(p.numel() for p in model.parameters())
    assert number == declared_parameters(f'imagenet/{name}')
    found = number / 1e6
    # Papers round to what they print; 22.73 is printed as 22.8.
    assert found == pytest.approx(millions, abs=0.4 if family == 'CASwin' else 0.08)
    modules = dict(model.backbone.named_modules())
    assert sum(path.endswith('.norm1') for path in modules) == blocks
    rates = [module.drop_prob for module in modules.values() if isinstance(module, DropPath)]
    assert max(rates) == pytest.approx(drop_path)


@every_config
def test_trains_a_step_and_predicts(name):
    torch.manual_seed(0)
    np.random.seed(0)
    cfg = shrink(name)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.train()
    gradients: dict[str, Tensor] = {}
    for path, parameter in model.named_parameters():
        parameter.register_hook(lambda grad, path=path: gradients.update({path: grad}))
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {path: value.clone() for path, value in model.named_parameters()}
    log = model.train_step(demo_data(4), optim_wrapper)

    # Untrained, all 1000 classes are alike.
    assert log['loss'].item() == pytest.approx(np.log(1000), rel=0.1)
    for path, parameter in model.named_parameters():
        assert torch.isfinite(gradients[path]).all(), path
        assert gradients[path].abs().max() > 0, path
        assert not torch.equal(parameter, before[path]), path

    model.eval()
    batch = demo_data(2)
    with torch.no_grad():
        first, second = model.test_step(batch)
        mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
        std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
        (last,) = model.backbone((batch['inputs'].flip(1) - mean) / std)
        if last.dim() == 4:
            tokens = last.flatten(2).mT
            last = (model.neck.norm(tokens) if 'pvt' in name else tokens).mean(1)
        scores = model.head.fc(last).softmax(1)
    for sample, expected in zip((first, second), scores, strict=True):
        torch.testing.assert_close(sample.pred_score, expected)
        assert sample.pred_label.item() == expected.argmax().item()


@pytest.mark.parametrize('name', ['ca_pvt_t', 'ca_swin_t', 'ca_deit_t', 'deit_t'])
def test_no_decay_for_norms_biases_and_positions(name):
    cfg = shrink(name)
    model = MODELS.build(cfg.model)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    decay = {id(p): group['weight_decay'] for group in groups for p in group['params']}
    undecayed = {path for path, p in model.named_parameters() if decay[id(p)] == 0}
    tables = (
        'relative_position_bias_table',
        'cls_token',
        *(f'pos_embed{i}' for i in ('', 1, 2, 3, 4)),
    )
    expected = {path for path, p in model.named_parameters() if path.endswith(('bias', *tables))}
    for path, module in model.named_modules():
        if isinstance(module, nn.LayerNorm):
            expected.add(f'{path}.weight')
    assert undecayed == expected
    assert ('backbone.pos_embed1' in undecayed) == (name == 'ca_pvt_t')
    assert set(decay.values()) == {0, 0.05}
    assert {group['lr'] for group in groups} == {1e-3}


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """An ImageNet of two classes, 300 x 200, in MMCA_DATA_ROOT."""
    monkeypatch.setenv('MMCA_DATA_ROOT', str(tmp_path))
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for label in ('n01', 'n02'):
            path = tmp_path / 'imagenet' / split / label / f'{split}_{label}.JPEG'
            path.parent.mkdir(parents=True)
            image = rng.integers(0, 256, (200, 300, 3), dtype=np.uint8)
            Image.fromarray(image).save(path)
    return tmp_path / 'imagenet'


def test_class_folders_are_read_from_the_data_root(folders):
    cfg = load('imagenet/ca_deit_t')
    train = DATASETS.build(cfg.train_dataloader.dataset)
    assert train.metainfo['classes'] == ('n01', 'n02')
    for label in (0, 1) * 8:
        item = train[label]
        assert item['inputs'].shape == (3, 224, 224)
        assert item['data_samples'].gt_label.item() == label
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        item = DATASETS.build(loader.dataset)[1]
        assert Path(item['data_samples'].img_path) == folders / 'val/n02/val_n02.JPEG'
        # The middle of the whole image, whose shorter side is 256.
        whole = Image.open(folders / 'val/n02/val_n02.JPEG').resize((384, 256), Image.BICUBIC)
        middle = np.asarray(whole)[16:240, 80:304, ::-1].transpose(2, 0, 1)
        assert np.abs(item['inputs'].numpy() - middle.astype(int)).mean() < 1


def test_the_data_root_has_a_default(monkeypatch):
    monkeypatch.delenv('MMCA_DATA_ROOT', raising=False)
    assert load('imagenet/ca_pvt_t').train_dataloader.dataset.data_root == 'data/imagenet'


def test_the_mini_classifier_has_the_mini_detectors_backbone(tmp_path, monkeypatch):
    detector = load('mini/maskrcnn_ca_pvt_mini').model.backbone
    monkeypatch.setenv('MMCA_DATA_ROOT', str(tmp_path))
    make_mini(tmp_path / 'mini', train=4, val=1, size=(96, 64))
    cfg = load('mini/pretrain_ca_pvt_mini')
    assert cfg.model.backbone == {**detector, 'out_indices': (3,)}

    model = MODELS.build(cfg.model)
    model.init_weights()
    for key in ('train_dataloader', 'val_dataloader'):
        cfg[key].update(num_workers=0, persistent_workers=False)
        cfg[key].collate_fn = dict(type='default_collate')  # as mmpretrain's tool sets it
    batch = next(iter(Runner.build_dataloader(cfg.train_dataloader)))
    assert len(batch['inputs']) == 16
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert torch.isfinite(model.train().train_step(batch, optim_wrapper)['loss'])
    batch = next(iter(Runner.build_dataloader(cfg.val_dataloader)))
    with torch.no_grad():
        samples = model.eval().test_step(batch)
    # Disc, square, star, triangle: folders in the order of their names, none for the ring.
    assert [sample.gt_label.item() for sample in samples] == [0, 2, 3, 4]

    path = tmp_path / 'epoch_1.pth'
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, path)
    init_default_scope('mmdet')
    backbone = MODELS.build(detector)
    assert isinstance(backbone, CAPVT)
    own = model.backbone.state_dict()
    assert f'{len(own)} loaded' in load_pretrained(backbone, path, min_share=1.0)
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, own[name]), name
