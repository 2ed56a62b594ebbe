"""Names decide on labels: perfect predictions score 1.0, however the files number things."""

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmca.engine import Runner
from mmca.engine.launch import find_tool
from tests.helpers import ROOT, error_line, python
from tests.stress.good_data import HEIGHT, NAMES, WIDTH, write_config, write_good
from tests.stress.malformed import annotation, edit

SHUFFLED = {1: 9, 2: 3, 3: 5}  # category id -> another


def each(key, change):
    """Change every entry of a list in a COCO file."""
    return edit(lambda content: [change(i, entry) for i, entry in enumerate(content[key])])


def renamed(to):
    """Change the ids of categories."""

    def change(content):
        for category in content['categories']:
            category['id'] = to(category['id'])
        for entry in content['annotations']:
            entry['category_id'] = to(entry['category_id'])

    return edit(change)


def text_image_ids(content):
    for image in content['images']:
        image['id'] = f'image {image["id"]}'
    for entry in content['annotations']:
        entry['image_id'] = f'image {entry["image_id"]}'


def reverse(files):
    edit(lambda content: content['categories'].reverse())(files)


CHANGES = {
    'as it is': lambda files: None,
    'categories in another order': reverse,
    'other category ids': renamed(SHUFFLED.get),
    'both': lambda files: (renamed(SHUFFLED.get)(files), reverse(files)),
    'category ids are text': renamed(lambda key: f'c{4 - key}'),
    'a category without objects is absent': edit(lambda content: content['categories'].pop()),
    'annotation ids from 0': each('annotations', lambda i, entry: entry.update(id=i)),
    'annotation ids are text': each('annotations', lambda i, entry: entry.update(id=f'a{i}')),
    'annotation ids are equal': each('annotations', lambda i, entry: entry.update(id=7)),
    'no annotation ids': each('annotations', lambda i, entry: entry.pop('id')),
    'image ids are text': edit(text_image_ids),
    'byte order mark': lambda f: f.json.write_bytes(b'\xef\xbb\xbf' + f.json.read_bytes()),
}


@pytest.fixture
def evaluate(tmp_path):
    """Evaluate predictions: the truth by the file's names, changed by a function."""
    files = write_good(tmp_path, 'coco', 3)['test']

    def run(change, classes=NAMES, wrong=(), kinds=('CocoDataset', 'CocoMetric')):
        change(files)
        source = dict(ann_file=str(files.json))
        dataset = dict(type=kinds[0], metainfo=dict(classes=classes), **source)
        dataset['data_prefix'] = dict(img=str(files.images))
        loader = dict(batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler'))
        metric = dict(type=kinds[1], metric=['bbox', 'segm'], classwise=True, **source)
        with DefaultScope.overwrite_default_scope('mmdet'):
            dataset = dict(type='RepeatDataset', times=1, dataset=dict(dataset, test_mode=True))
            loader = Runner.build_dataloader(dict(loader, dataset=dataset))
            evaluator = object.__new__(Runner).build_evaluator(metric)
        evaluator.dataset_meta = loader.dataset.metainfo
        content = json.loads(files.json.read_bytes())
        names = {c['id']: c['name'] for c in content['categories']}
        for index, image in enumerate(content['images']):
            objects = [a for a in content['annotations'] if a['image_id'] == image['id']]
            labels = [classes.index(names[a['category_id']]) for a in objects]
            info = loader.dataset.dataset.get_data_info(index)
            assert [entry['bbox_label'] for entry in info['instances']] == labels
            nut = classes.index('hazelnut')
            labels = [nut if classes[label] in wrong else label for label in labels]
            evaluator.process([prediction(image, objects, labels)])
        return evaluator.evaluate(len(content['images']))

    return run


def prediction(image, objects, labels):
    boxes = torch.tensor([a['bbox'] for a in objects], dtype=torch.float)
    boxes[:, 2:] += boxes[:, :2]
    masks = torch.zeros(len(boxes), HEIGHT, WIDTH, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = True
    found = dict(bboxes=boxes, labels=torch.tensor(labels), scores=torch.ones(len(boxes)))
    size = dict(img_id=image['id'], ori_shape=(HEIGHT, WIDTH))
    return dict(size, pred_instances=dict(found, masks=masks))


@pytest.mark.parametrize('classes', [NAMES, NAMES[::-1], NAMES[1:] + NAMES[:1]])
@pytest.mark.parametrize('change', CHANGES.values(), ids=CHANGES)
def test_predictions_are_scored_by_their_names(change, classes, evaluate):
    scores = evaluate(change, classes)
    assert scores['coco/bbox_mAP'] == scores['coco/segm_mAP'] == 1.0
    scores = evaluate(lambda files: None, classes, wrong=['fig'])
    assert (scores['coco/date_precision'], scores['coco/fig_precision']) == (1.0, 0.0)


class Data(CocoDataset):
    METAINFO: ClassVar = dict(classes=NAMES)


class Metric(CocoMetric):
    def compute_metrics(self, results):
        return super().compute_metrics(results) | {'own': len(results)}


@pytest.mark.parametrize('kinds', [(Data, Metric), (Data, 'CocoMetric'), ('CocoDataset', Metric)])
@pytest.mark.parametrize('change', [CHANGES['both'], CHANGES['annotation ids from 0']])
def test_subclasses_of_a_config_order_labels_by_name(change, kinds, evaluate):
    scores = evaluate(change, NAMES[1:] + NAMES[:1], wrong=['fig'], kinds=kinds)
    assert (scores['coco/date_precision'], scores['coco/fig_precision']) == (1.0, 0.0)
    assert ('coco/own' in scores) == (kinds[1] is Metric)


ORACLE = """
import torch
from mmdet.registry import MODELS
from mmdet.models.detectors.base import BaseDetector
from mmengine.structures import InstanceData

@MODELS.register_module(force=True)
class Oracle(BaseDetector):
    def __init__(self, data_preprocessor=None, init_cfg=None):
        super().__init__(data_preprocessor, init_cfg)
        self.weight = torch.nn.Parameter(torch.ones(1))
    def loss(self, inputs, samples): return dict(loss=(self.weight ** 2).sum())
    def _forward(self, inputs, samples): pass
    def extract_feat(self, inputs): pass
    def predict(self, inputs, samples):
        for sample in samples:  # a date on the left, a fig on the right
            boxes = torch.tensor([[4., 6, 28, 36], [34, 6, 58, 36]])
            labels = torch.tensor([1, 2])
            sample.pred_instances = InstanceData(bboxes=boxes, labels=labels, scores=torch.ones(2))
        return samples
"""


SETTINGS = """
custom_imports = dict(imports=['mmca.engine', 'oracle'])
model = dict(_delete_=True, type='Oracle', data_preprocessor=dict(type='DetDataPreprocessor'))
optim_wrapper = dict(_delete_=True, optimizer=dict(type='SGD', lr=1e-3))
common['metainfo'] = dict(classes=('hazelnut', 'date', 'fig'))
train_dataloader['dataset'].update(common)
val_dataloader['dataset'].update(common)
val_evaluator['metric'] = 'bbox'
train_cfg['val_interval'] = 1
default_hooks['checkpoint']['interval'] = 1
"""


def test_the_librarys_own_tool_orders_labels_by_name(tmp_path, monkeypatch, capfd):
    files = write_good(tmp_path, 'coco', 2)
    reverse(files['test'])
    (tmp_path / 'oracle.py').write_text(ORACLE)
    config = write_config(tmp_path, 'coco', SETTINGS)
    env = {'PYTHONPATH': os.pathsep.join([str(ROOT), str(tmp_path)])}
    done = python(find_tool('mmdet', 'train'), config, env=env)
    assert 'coco/bbox_mAP: 1.0000' in done.stdout + done.stderr
    # Testing, in this process.
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'oracle', raising=False)

    def test():
        cfg = Config.fromfile(config)
        cfg.load_from = str(tmp_path / 'work/epoch_1.pth')
        return Runner.from_cfg(cfg).test()

    assert test()['coco/bbox_mAP'] == 1.0
    # The model's outputs keep the order of the training.
    config.write_text(config.read_text().replace("('hazelnut', 'date', ", "('date', 'hazelnut', "))
    capfd.readouterr()
    with pytest.raises(SystemExit, match='2'):
        test()
    classes = "metainfo.classes=('hazelnut', 'date', 'fig')"
    assert f'in a different order: set {classes}' in error_line(capfd.readouterr().err)


def test_a_broken_pipeline_is_not_the_files_fault(tmp_path, capfd):
    write_good(tmp_path, 'coco', 2)
    config = write_config(tmp_path, 'coco', "steps[2]['img_scale'] = steps[2].pop('scale')")
    with pytest.raises(SystemExit, match='2'):
        Runner.from_cfg(Config.fromfile(config)).train()
    assert "unexpected keyword argument 'img_scale'" in error_line(capfd.readouterr().err)


EMPTY = 'no image is left: .*train.json has 2 images, 0 annotations, 3 categories'


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            annotation(bbox=[4, 6]),
            r'json: number 2 of its annotations has the bbox \[4, 6\]: write',
        ),
        (annotation(bbox=...), 'json: number 2 of its annotations has no bbox'),
        (
            each('images', lambda i, entry: entry.pop('width')),
            'number 0 of its images has no width',
        ),
        (edit(lambda content: content.update(annotations=[])), EMPTY),
        (
            each('annotations', lambda i, entry: entry.update(image_id=str(entry['image_id']))),
            "no object is left to train on; 4 of 4 .* unknown image_id .*, image_id '0'.: they are",
        ),
        (
            each('categories', lambda i, entry: entry.update(name=f'new {i}')),
            'json: 3 of 3 class names in metainfo.classes are not among its 3 categories',
        ),
    ],
)
def test_a_file_that_leaves_no_image_is_explained(change, message, tmp_path, capfd):
    change(write_good(tmp_path, 'coco', 2)['train'])
    with pytest.raises(SystemExit, match='2'):
        Runner.from_cfg(Config.fromfile(write_config(tmp_path, 'coco'))).train()
    assert re.search(message, error_line(capfd.readouterr().err))


@pytest.mark.parametrize('elsewhere', [False, True])
def test_images_of_one_name_are_drawn_into_several_files(elsewhere, tmp_path, monkeypatch):
    files = write_good(tmp_path, 'coco', 3)['test']
    names = ['cam1/frame.jpg', 'cam2/frame.jpg', 'cam1/sub/frame.jpg']
    for index, name in enumerate(names):
        path = (tmp_path / 'other' if elsewhere else files.images) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(files.images / f'{index}.jpg', path)
        names[index] = str(path) if elsewhere else name
    each('images', lambda i, entry: entry.update(file_name=names[i]))(files)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'oracle.py').write_text(ORACLE)
    cfg = Config.fromfile(write_config(tmp_path, 'coco', SETTINGS))
    cfg.default_hooks.visualization.update(draw=True, test_out_dir='drawn')
    monkeypatch.chdir(tmp_path)
    cfg.work_dir = 'work'
    cfg.test_dataloader.batch_size = 2
    Runner.from_cfg(cfg).test()
    drawn = sorted(Path('work').rglob('frame.jpg'))
    assert len(drawn) == 3
    (folder,) = Path('work').glob('*/drawn')
    assert all(path.is_relative_to(folder) for path in drawn)
