"""What the checks have built is what the run gets: data are read once, models get no memory."""

import json
from collections import Counter

import pytest
import torch
from mmdet.datasets import CocoDataset
from mmdet.models import MaskRCNN
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.runner import Runner
from mmseg.datasets import ADE20KDataset

from mmca.cli import library_tool
from mmca.cli.main import run_command
from mmca.config.models import build_on_meta
from mmca.config.reader import read_config
from mmca.engine import no_torchvision
from tests.helpers import CLS, DET, SEG, THREE, error_line, needs_mmpretrain


@pytest.fixture
def counted(monkeypatch):
    """Count how often data sets read their files, by class."""
    counts = Counter()

    def count(cls):
        load = cls.load_data_list

        def load_counted(self):
            counts[cls.__name__] += 1
            return load(self)

        monkeypatch.setattr(cls, 'load_data_list', load_counted)

    for cls in (CocoDataset, ADE20KDataset):
        count(cls)
    parse = json.load
    monkeypatch.setattr(json, 'load', lambda file: counts.update(['file']) or parse(file))
    return counts


@pytest.fixture
def start(data, monkeypatch):
    """Start a training that ends when its data loaders are there; returns these."""

    def run(path, *argv, change=lambda cfg: None):
        loaders = []

        def build_loaders(script, run_name):
            cfg = read_config(str(path))
            change(cfg)
            with DefaultScope.overwrite_default_scope(cfg.default_scope):
                for key in ('train_dataloader', 'val_dataloader'):
                    cfg[key].update(num_workers=0, persistent_workers=False)
                    loaders.append(Runner.build_dataloader(cfg[key]))

        monkeypatch.setattr(library_tool.runpy, 'run_path', build_loaders)
        assert run_command('train', [str(path), *argv]) == 0
        return loaders

    return run


@pytest.mark.parametrize(
    ('path', 'expected'),
    [(DET, {'CocoDataset': 2, 'file': 2}), (SEG, {'ADE20KDataset': 2})],
)
def test_each_data_set_is_read_once(start, counted, path, expected):
    train, val = start(path)
    assert counted == expected
    assert (len(train.dataset), len(val.dataset)) == (3, 2)
    assert 'inputs' in train.dataset[0]  # the config's own pipeline
    # Nothing of the checks is left in it.
    assert not {'COCOAPI', 'load_data_list'} & vars(train.dataset).keys()


def test_data_sets_in_wrappers_are_read_once(start, counted, config):
    path = config(
        DET,
        """
part = {{_base_.train_dataloader.dataset}}
train_dataloader = dict(dataset=dict(_delete_=True, type='RepeatDataset', times=2, dataset=dict(
    type='ConcatDataset', datasets=[part, part])))""",
    )
    train, _ = start(path)
    assert counted == {'CocoDataset': 3, 'file': 3}
    assert len(train.dataset) == 12
    first, second = train.dataset.dataset.datasets
    assert first is not second


def test_what_the_tool_changes_is_built_anew(start, counted):
    def change(cfg):
        cfg.val_dataloader.dataset.pipeline = []

    _, val = start(DET, change=change)
    assert counted['CocoDataset'] == 3
    assert val.dataset.pipeline.transforms == []


def test_after_the_run_data_sets_are_built_as_ever(start, counted):
    start(DET)
    with DefaultScope.overwrite_default_scope('mmdet'):
        DATASETS.build(read_config(DET).val_dataloader.dataset)
    assert counted['CocoDataset'] == 3


@needs_mmpretrain
def test_class_folders_are_read_once(start, folders, monkeypatch):
    no_torchvision.stand_in()
    from mmpretrain.datasets import CustomDataset

    counts = Counter()
    load = CustomDataset.load_data_list
    monkeypatch.setattr(
        CustomDataset, 'load_data_list', lambda self: counts.update(['read']) or load(self)
    )
    train, _ = start(CLS, *THREE)
    assert counts == {'read': 2}
    assert train.dataset.metainfo['classes'] == ('date', 'fig', 'hazelnut')


def test_training_from_scratch_builds_no_model_for_the_checks(start, monkeypatch):
    built = []
    monkeypatch.setattr(MaskRCNN, '__init__', lambda *args, **kwargs: built.append(args))
    start(DET)
    assert built == []


def test_models_that_are_only_compared_have_no_weights():
    cfg = read_config(DET)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = build_on_meta(cfg.model)
    assert {tensor.device.type for tensor in model.state_dict().values()} == {'meta'}


def test_models_that_read_values_while_built_are_built_for_real():
    class Reads(torch.nn.Linear):
        def __init__(self):
            super().__init__(2, 3)
            self.rate = torch.linspace(0, 1, 3)[1].item()

    MODELS.register_module('ReadsValues', module=Reads, force=True)
    model = build_on_meta({'type': 'ReadsValues'})
    assert model.weight.device.type == 'cpu'
    assert model.rate == 0.5


def test_an_empty_data_set_after_its_filter(fail, data):
    path = data / 'coco/annotations/instances_train2017.json'
    options = 'train_dataloader.dataset.filter_cfg.min_size=64'
    line = fail('train', DET, '--cfg-options', options)
    assert f'none of the 3 images of {path} is left after its filter' in line


@pytest.fixture
def evaluate(data, monkeypatch):
    """Test with a run that only builds its data loader and its evaluator; returns the exit code."""

    def run(*options):
        def build(script, run_name):
            cfg = read_config(DET, options)
            with DefaultScope.overwrite_default_scope(cfg.default_scope):
                Runner.build_dataloader(cfg.test_dataloader)
                Evaluator(cfg.test_evaluator)

        monkeypatch.setattr(library_tool.runpy, 'run_path', build)
        return run_command('test', [DET, 'http://x/y.pth', '--cfg-options', *options])

    return run


def test_the_evaluator_takes_the_file_that_is_parsed(evaluate, counted):
    workers = 'test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False'
    assert evaluate(*workers) == 0
    assert counted['file'] == 1


def test_an_evaluator_with_a_broken_file_of_its_own(evaluate, capsys, tmp_path):
    (tmp_path / 'broken.json').write_text('{')
    assert evaluate(f'test_evaluator.ann_file={tmp_path}/broken.json') == 2
    assert 'broken.json is no COCO annotation file' in error_line(capsys.readouterr().err)
