"""Data that are missing are reported, with the expected tree and the ways out."""

from tests.helpers import CLS, DET, SEG, THREE, error_line, needs_mmpretrain


def test_training_without_validation_needs_no_validation_data(run, config, data):
    (data / 'coco/annotations/instances_val2017.json').unlink()
    path = config(DET, 'val_dataloader = None\nval_cfg = None\nval_evaluator = None')
    assert run('train', path).code == 0


def test_missing_coco_shows_the_expected_tree(run, data, monkeypatch):
    monkeypatch.setenv('MMCA_DATA_ROOT', str(data / 'nowhere'))
    result = run('train', DET)
    root = data / 'nowhere/coco'
    assert f'data not found: {root}/annotations/instances_train2017.json' in error_line(result.err)
    assert 'set MMCA_DATA_ROOT to the folder that holds coco/' in error_line(result.err)
    assert 'train_dataloader.dataset.data_root=DIR' in error_line(result.err)
    assert 'val_evaluator.ann_file=FILE' in error_line(result.err)
    assert result.err.splitlines()[1:] == [
        f'  {root}/',
        '    annotations/instances_train2017.json   <- missing',
        '    annotations/instances_val2017.json   <- missing',
        '    train2017/   <- missing',
        '    val2017/   <- missing',
    ]


def test_missing_ade_folder_is_marked_in_the_tree(run, data):
    ade = data / 'ADEChallengeData2016'
    (ade / 'images/validation').rename(ade / 'images/val')
    result = run('test', SEG, 'x.pth')
    assert f'data not found: {ade}/images/validation (test_dataloader.dataset)' in error_line(
        result.err
    )
    assert result.err.splitlines()[1:] == [
        f'  {ade}/',
        '    annotations/validation/',
        '    images/validation/   <- missing',
    ]


def test_data_inside_wrappers_are_found(fail, config):
    path = config(
        DET,
        """
part = dict(type='CocoDataset', data_root='absent', ann_file='a.json', pipeline=[])
train_dataloader = dict(dataset=dict(_delete_=True, type='RepeatDataset', times=2, dataset=dict(
    type='ConcatDataset', datasets=[{{_base_.train_dataloader.dataset}}, part])))""",
    )
    text = fail('train', path)
    assert 'absent/a.json (train_dataloader.dataset.dataset.datasets.1)' in text


def test_evaluator_with_its_own_path(run, fail, data, tmp_path):
    absent = f'val_evaluator.ann_file={tmp_path}/absent.json'
    text = fail('train', DET, '--cfg-options', absent)
    assert f'annotations not found: {tmp_path}/absent.json' in text
    other = data / 'coco/annotations/instances_train2017.json'
    result = run('test', DET, 'http://x/y.pth', '--cfg-options', f'test_evaluator.ann_file={other}')
    assert f'warning: test_evaluator.ann_file is {other}, which no data set' in result.err


def test_listed_image_missing(fail, data):
    (data / 'coco/train2017/1.jpg').unlink()
    text = fail('train', DET)
    assert f'lists an image that is not there: {data}/coco/train2017/1.jpg' in text


def test_empty_image_folder(fail, data):
    for path in (data / 'ADEChallengeData2016/images/training').iterdir():
        path.rename(path.with_suffix('.jpeg'))
    assert 'no images found in' in fail('train', SEG)


@needs_mmpretrain
def test_missing_imagenet_shows_the_expected_tree(run, fail, folders):
    (folders / 'val').rename(folders / 'validation')
    result = run('train', CLS, *THREE)
    assert f'data not found: {folders}/val (val_dataloader.dataset)' in error_line(result.err)
    assert 'set MMCA_DATA_ROOT to the folder that holds imagenet/' in error_line(result.err)
    assert 'train_dataloader.dataset.data_root=DIR' in error_line(result.err)
    assert error_line(result.err).endswith('Expected (one folder a class in each):')
    assert result.err.splitlines()[1:] == [
        f'  {folders}/',
        '    train/',
        '    val/   <- missing',
    ]
    result = run('train', CLS, '--no-validate', *THREE)
    assert result.argv[1:] == [CLS, '--no-validate', *THREE]
    place = 'val_dataloader.dataset.data_prefix.img_path=validation'
    assert 'do not fit' in fail('train', CLS, *THREE, place)
    assert run('train', CLS, *THREE, place.replace('.img_path', '')).code == 0


@needs_mmpretrain
def test_folders_without_images(fail, folders):
    for path in (folders / 'train').glob('*/*.jpg'):
        path.rename(path.with_suffix('.txt'))
    assert 'train_dataloader.dataset: Found 0 files' in fail('train', CLS, *THREE)


@needs_mmpretrain
def test_data_sets_of_other_kinds_are_left_to_the_library(run, folders):
    cifar = 'train_dataloader.dataset.type=CIFAR10'
    assert '0 train images, 3 classes' in run('train', CLS, *THREE, cifar).out
