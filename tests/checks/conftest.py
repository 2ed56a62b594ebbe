"""Tiny data sets, built by mmdet and mmseg, and their checks."""

from types import SimpleNamespace

import pytest
from mmdet.datasets import CocoDataset
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope
from mmengine.utils import import_modules_from_strings
from mmseg.datasets import BaseSegDataset

from mmca.checks import check_data, splits_of
from mmca.engine.coco import by_names
from tests.stress.good_data import NAMES, write_good

import_modules_from_strings(['mmdet.datasets', 'mmdet.evaluation', 'mmseg.datasets'])


@pytest.fixture
def coco(tmp_path):
    """The training split of a COCO data set: its files, and a function that builds it."""
    files = write_good(tmp_path / 'coco', 'coco', 3)['train']

    def build(kind=None, masks=True, color='color', poly2mask=True, **options):
        options.setdefault('metainfo', dict(classes=NAMES))
        steps = [
            dict(type='LoadImageFromFile', color_type=color),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=masks, poly2mask=poly2mask),
        ]
        with DefaultScope.overwrite_default_scope('mmdet'):
            return (kind or by_names(CocoDataset))(
                ann_file=str(files.json),
                data_prefix=dict(img=str(files.images)),
                pipeline=steps,
                **options,
            )

    return SimpleNamespace(files=files, build=build)


@pytest.fixture
def ade(tmp_path):
    """The training split of a data set for mmseg, in which label 0 is ignored."""
    files = write_good(tmp_path / 'ade', 'ade', 3)['train']

    def build(kind=BaseSegDataset, **options):
        options = {'metainfo': dict(classes=NAMES), 'reduce_zero_label': True, **options}
        options.setdefault(
            'pipeline', [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
        )
        prefix = dict(img_path=str(files.images), seg_map_path=str(files.maps))
        with DefaultScope.overwrite_default_scope('mmseg'):
            return kind(**{'data_prefix': prefix, **options})

    return SimpleNamespace(files=files, build=build)


@pytest.fixture
def check(capsys):
    """Check data sets as a training's, or one as evaluated; returns the warnings."""

    def run(*datasets, metric=None):
        loops = {}
        names = ['val'] if metric and len(datasets) == 1 else ['train', 'val', 'test']
        for name, dataset in zip(names, datasets):
            loader = SimpleNamespace(dataset=dataset)
            loops[name] = SimpleNamespace(dataloader=loader)
        if metric:
            with DefaultScope.overwrite_default_scope('mmdet'):
                evaluator = Evaluator(dict(type='CocoMetric', metric=metric))
            loops['val'] = SimpleNamespace(dataloader=loader, evaluator=evaluator)
        capsys.readouterr()
        check_data(splits_of(loops))
        lines = capsys.readouterr().err.splitlines()
        assert all(line.startswith('warning: ') for line in lines), lines
        return lines

    return run
