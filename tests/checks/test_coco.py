"""Warn about what mmdet would drop, refuse what it would mix up, pass the rest of COCO files."""

import os
from pathlib import Path

import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmdet.datasets.coco_panoptic import CocoPanopticDataset
from pycocotools import mask

from mmca.checks.coco import CocoUse, examine, rle_pixels
from mmca.errors import InputError
from tests.stress.good_data import HEIGHT, NAMES, WIDTH, coco_content
from tests.stress.malformed import COCO_FINE, NAN, SQUARE, annotation, edit, one, rle


def test_a_good_file_passes_in_silence(coco, check):
    assert check(coco.build(), metric=['bbox', 'segm']) == []


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (annotation(category_id='2'), 'an unknown category_id (the first is number 2, id 102, cat'),
        (annotation(image_id=77), 'reference an unknown image_id'),
        (annotation(area=0), 'have a box smaller than 1 pixel or no area'),
        (annotation(bbox=[4, 6, 0.5, 30]), 'have a box smaller than 1 pixel or no area'),
        (annotation(bbox=[90, 6, 24, 30], area=...), 'have a box outside the image'),
        (annotation(bbox=[34, 6, 58, 36]), 'have a box that leaves the image'),
        (annotation(segmentation=[[1, 2, 3, 4]]), 'have no polygon of three or more points'),
        (edit(lambda c: c['categories'].append({'id': 9, 'name': 'x'})), 'unused categories: x'),
    ],
)
def test_what_is_dropped_is_a_warning(change, words, coco, check):
    change(coco.files)
    (line,) = check(coco.build())
    assert words in line
    assert f'train_dataloader.dataset: {coco.files.json}: ' in line


def each_annotation(**values):
    return edit(lambda content: [entry.update(values) for entry in content['annotations']])


@edit
def two_figs(content):
    content['categories'].append({'id': 9, 'name': 'fig'})
    content['annotations'][0]['category_id'] = 9


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (annotation(bbox=[NAN, 6, 24, 30]), 'have a bbox or polygon with NaN or infinity'),
        (annotation(segmentation=[[NAN] * 6]), 'have a bbox or polygon with NaN or infinity'),
        (annotation(segmentation=...), 'have no segmentation, but the config trains masks'),
        (annotation(segmentation=SQUARE), 'have a segmentation of unknown form'),
        (
            annotation(segmentation=[SQUARE, {'size': [1, 1]}]),
            'have a segmentation of unknown form',
        ),
        (rle(counts='0'), 'have an RLE that does not fill the image'),
        (rle(counts=7), 'have an RLE that does not fill the image'),
        (rle(size=[WIDTH, HEIGHT]), 'have an RLE that does not fill the image'),
        (one('images', id=0), '2 images share the id 0: number them 1, 2, 3'),
        (one('categories', id=1), '2 categories share the id 1'),
        (one('categories', name='date'), 'are not among its 2 categories: hazelnut'),
        (two_figs, 'two categories have the same name'),
        (annotation(segmentation=[[4, 6], [28, 6], [28, 36]]), 'have a segmentation of unknown'),
        (each_annotation(bbox=[0.1, 0.1, 0.4, 0.6]), 'no object is left to train on; 6 of 6 anno'),
        (each_annotation(iscrowd=1), '6 of 6 annotations are crowds (iscrowd=1), which training'),
    ],
)
def test_what_would_train_wrongly_is_refused(change, words, coco, check):
    change(coco.files)
    with pytest.raises(InputError) as caught:
        check(coco.build())
    assert words in str(caught.value)


@pytest.mark.parametrize(
    'change',
    [
        *COCO_FINE.values(),
        edit(lambda c: c.update(annotations=c['annotations'][:1])),  # images without objects
        annotation(iscrowd=...),
        annotation(ignore=1, bbox=[0, 0, 0, 0], segmentation=...),
        annotation(id=0),
        annotation(bbox=[4.5, 6, 60, 30]),  # by half a pixel
    ],
)
def test_what_is_legitimate_passes(change, coco, check):
    change(coco.files)
    assert check(coco.build()) == []
    assert len(coco.build()[0]['gt_bboxes']) > 0


def test_most_objects_are_crowds(coco, check):
    edit(lambda c: [entry.update(iscrowd=1) for entry in c['annotations'][:4]])(coco.files)
    (line,) = check(coco.build())
    assert '4 of 6 annotations are crowds' in line


def test_boxes_alone_need_no_masks(coco, check):
    annotation(segmentation=...)(coco.files)
    assert check(coco.build(masks=False)) == []
    annotation(segmentation=[[NAN]])(coco.files)
    assert check(coco.build(masks=False)) == []


def test_rle_masks_where_polygons_are_needed(coco, check):
    rle()(coco.files)
    (line,) = check(coco.build(poly2mask=False))
    assert '1 of 6 annotations have RLE masks' in line
    annotation(iscrowd=1)(coco.files)
    assert check(coco.build(poly2mask=False)) == []


def test_some_of_the_categories(coco, check):
    annotation(iscrowd=..., segmentation=...)(coco.files)  # a date
    fig = coco.build(metainfo=dict(classes=('fig',)))
    (line,) = check(fig)
    assert 'unused categories: date, hazelnut' in line


def test_what_pycocotools_needs_in_addition(coco, check):
    annotation(segmentation=[[1, 2, 3, 4]])(coco.files)
    with pytest.raises(InputError, match='begin with a polygon of one or two points'):
        check(coco.build(), metric='segm')
    assert 'no polygon' in check(coco.build(), metric='bbox')[0]
    annotation(segmentation=[SQUARE])(coco.files)
    edit(lambda content: content.pop('annotations'))(coco.files)
    assert 'no annotations to compare' in check(coco.build(test_mode=True), metric='bbox')[0]


def test_an_unchanged_file_is_read_once(coco, check):
    annotation(category_id=77)(coco.files)
    dataset = coco.build()
    first = check(dataset)
    stat = coco.files.json.stat()
    coco.files.json.write_bytes(b'{' * stat.st_size)  # cannot be read again
    os.utime(coco.files.json, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert check(dataset) == first != []
    for cached in Path(os.environ['XDG_CACHE_HOME']).rglob('*.json'):
        cached.write_text('[')
    with pytest.raises(InputError, match=f'^cannot read {coco.files.json}: '):
        check(dataset)


def test_no_cache_folder_is_needed(coco, check, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(coco.files.json))
    assert check(coco.build()) == []


def test_a_category_may_be_absent_where_predictions_are_evaluated():
    content = coco_content()
    content['categories'].pop()
    assert examine(content, NAMES, CocoUse(boxes_evaluated=True)) == ['no category hazelnut']
    with pytest.raises(InputError, match='are not among its 2 categories: hazelnut'):
        examine(content, NAMES, CocoUse())


def test_layouts_of_others_are_left_alone(coco, tmp_path, check):
    class Own(CocoDataset):
        def parse_data_info(self, raw_data_info):
            raw_data_info['raw_ann_info'] = []
            return super().parse_data_info(raw_data_info)

    edit(lambda content: content['categories'].reverse())(coco.files)
    assert check(coco.build(Own)) == []
    assert check(coco.build()) == []
    with pytest.raises(InputError, match='are in different orders'):
        check(coco.build(CocoDataset))
    edit(lambda content: content.update(annotations=[]))(coco.files)
    assert check(coco.build(CocoPanopticDataset, test_mode=True)) == []


@pytest.mark.parametrize('density', [0.0, 0.01, 0.5, 1.0])
def test_runs_of_a_mask_add_up_to_its_pixels(density):
    values = np.random.default_rng(0).random((97, 1031)) < density
    coded = mask.encode(np.asfortranarray(values, dtype=np.uint8))
    assert rle_pixels(coded['counts'].decode()) == values.size


def test_a_class_is_a_name_of_the_file(coco, check):
    with pytest.raises(InputError, match=r'1 of 3 class names in metainfo.classes .* hazelnutt; '):
        check(coco.build(metainfo=dict(classes=(*NAMES[:2], 'hazelnutt'))))
