"""Bad input to the tools: one line that names the value and the mend, exit code 2, no traceback.

The shipped configs run on a few tiny files; the library's own tool is replaced by a recorder, so
that a run ends where training would start.
"""

import importlib
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmengine.logging import MMLogger
from PIL import Image

from mmca.errors import InputError

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / 'tools'))
launcher = importlib.import_module('launcher')

DET = str(ROOT / 'configs/coco/maskrcnn_ca_pvt_t.py')
SEG = str(ROOT / 'configs/ade20k/fpn_ca_pvt_t.py')
CLS = str(ROOT / 'configs/imagenet/ca_deit_t.py')
needs_mmpretrain = pytest.mark.skipif(
    find_spec('mmpretrain') is None, reason='needs requirements-pretrain.txt'
)
NAMES = CocoDataset.METAINFO['classes']


@pytest.fixture(autouse=True)
def fresh_logger():
    """The logger of mmengine lives on and would write to the streams of the test before."""
    MMLogger._instance_dict.clear()


def write_image(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def write_coco(root: Path, split: str, number: int, names=NAMES) -> Path:
    images = [{'id': i, 'file_name': f'{i}.jpg', 'height': 32, 'width': 32} for i in range(number)]
    for image in images:
        write_image(root / f'{split}2017' / image['file_name'], np.zeros((32, 32, 3)))
    path = root / f'annotations/instances_{split}2017.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(
            {
                'info': {'categories': 'this is not the list', 'images': [1, 2]},
                'images': images,
                'annotations': [],
                'categories': [{'id': 7 * i + 1, 'name': name} for i, name in enumerate(names)],
            }
        )
    )
    return path


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Both data sets in their expected layouts, MMCA_DATA_ROOT set to their folder."""
    monkeypatch.setenv('MMCA_DATA_ROOT', str(tmp_path))
    write_coco(tmp_path / 'coco', 'train', 3)
    write_coco(tmp_path / 'coco', 'val', 2)
    ade = tmp_path / 'ADEChallengeData2016'
    for split, number in (('training', 3), ('validation', 2)):
        for i in range(number):
            write_image(ade / f'images/{split}/{i}.jpg', np.zeros((32, 32, 3)))
            write_image(ade / f'annotations/{split}/{i}.png', np.full((32, 32), 150))
    return tmp_path


@pytest.fixture
def run(data, monkeypatch, capsys):
    """Run a tool up to the library's own; returns code, out, err and the argv handed over."""

    def start(tool, *argv):
        handed = []
        monkeypatch.setattr(sys, 'argv', ['tool'])
        monkeypatch.setattr(
            launcher.runpy, 'run_path', lambda path, run_name: handed.extend(sys.argv)
        )
        code = launcher.main(tool, [str(arg) for arg in argv])
        out, err = capsys.readouterr()
        assert 'Traceback' not in out + err
        assert code == (0 if handed else 2)
        return SimpleNamespace(code=code, out=out, err=err, argv=handed)

    return start


def config(tmp_path: Path, base: str, text: str) -> Path:
    path = tmp_path / 'changed.py'
    path.write_text(f'_base_ = {base!r}\n{text}\n')
    return path


def message(result) -> str:
    """The one error line."""
    lines = [line for line in result.err.splitlines() if line.startswith('error: ')]
    assert result.code == 2
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ('base', 'line'),
    [
        (DET, 'mmdet train: {}, work dir here, 3 train images, 80 classes'),
        (SEG, 'mmseg train: {}, work dir here, 3 train images, 150 classes'),
    ],
)
def test_says_in_one_line_what_will_run(run, base, line):
    result = run('train', base, '--work-dir', 'here')
    assert result.out.splitlines()[-1] == line.format(base)
    assert result.err == ''
    assert result.argv[0].endswith('.mim/tools/train.py')
    assert result.argv[1:] == [base, '--work-dir', 'here']


def test_other_processes_check_nothing(run, data, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    (data / 'coco/annotations/instances_train2017.json').unlink()
    result = run('train', DET)
    assert result.argv[1:] == [DET]
    assert 'train images' not in result.out


def test_training_without_validation_needs_no_validation_data(run, data, tmp_path):
    (data / 'coco/annotations/instances_val2017.json').unlink()
    path = config(tmp_path, DET, 'val_dataloader = None\nval_cfg = None\nval_evaluator = None')
    assert run('train', path).code == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason='works with a GPU')
def test_amp_without_gpu(run):
    assert '--amp needs a GPU and the device here is cpu' in message(run('train', DET, '--amp'))


def test_auto_scale_lr_without_base_batch_size(run, tmp_path):
    path = config(tmp_path, DET, 'auto_scale_lr = dict(_delete_=True, enable=False)')
    assert 'add auto_scale_lr = dict(' in message(run('train', path, '--auto-scale-lr'))


def test_launcher_without_its_launcher(run, monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    assert 'tools/dist_train.sh' in message(run('train', DET, '--launcher', 'pytorch'))


def test_tta(run, tmp_path):
    assert 'has no masks' in message(run('test', DET, 'x.pth', '--tta'))
    assert run('test', SEG, 'http://x/y.pth', '--tta').code == 0
    runtime = [
        f'{ROOT}/configs/_base_/{name}.py'
        for name in ('models/semantic_fpn', 'datasets/ade20k', 'default_runtime')
    ]
    path = tmp_path / 'plain.py'
    path.write_text(f"_base_ = {runtime}\ndefault_scope = 'mmseg'\n")
    assert '--tta: the config has no tta_model' in message(run('test', path, 'x.pth', '--tta'))


def test_out_of_mmdet_is_a_pickle(run):
    assert 'must end in .pkl' in message(run('test', DET, 'x.pth', '--out', 'result.json'))


def test_missing_coco_shows_the_expected_tree(run, data, monkeypatch):
    monkeypatch.setenv('MMCA_DATA_ROOT', str(data / 'nowhere'))
    result = run('train', DET)
    root = data / 'nowhere/coco'
    assert f'data not found: {root}/annotations/instances_train2017.json' in message(result)
    assert 'set MMCA_DATA_ROOT to the folder that holds coco/' in message(result)
    assert 'train_dataloader.dataset.data_root=DIR' in message(result)
    assert 'val_evaluator.ann_file=FILE' in message(result)
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
    assert f'data not found: {ade}/images/validation (test_dataloader.dataset)' in message(result)
    assert result.err.splitlines()[1:] == [
        f'  {ade}/',
        '    annotations/validation/',
        '    images/validation/   <- missing',
    ]


def test_data_inside_wrappers_are_found(run, tmp_path):
    path = config(
        tmp_path,
        DET,
        """
part = dict(type='CocoDataset', data_root='absent', ann_file='a.json', pipeline=[])
train_dataloader = dict(dataset=dict(_delete_=True, type='RepeatDataset', times=2, dataset=dict(
    type='ConcatDataset', datasets=[{{_base_.train_dataloader.dataset}}, part])))""",
    )
    text = message(run('train', path))
    assert 'absent/a.json (train_dataloader.dataset.dataset.datasets.1)' in text


def test_evaluator_with_its_own_path(run, data, tmp_path):
    absent = f'val_evaluator.ann_file={tmp_path}/absent.json'
    text = message(run('train', DET, '--cfg-options', absent))
    assert f'annotations not found: {tmp_path}/absent.json' in text
    other = data / 'coco/annotations/instances_train2017.json'
    result = run('test', DET, 'http://x/y.pth', '--cfg-options', f'test_evaluator.ann_file={other}')
    assert f'warning: test_evaluator.ann_file is {other}, which no data set' in result.err


def test_listed_image_missing(run, data):
    (data / 'coco/train2017/1.jpg').unlink()
    text = message(run('train', DET))
    assert f'lists an image that is not there: {data}/coco/train2017/1.jpg' in text


@pytest.mark.parametrize(
    ('content', 'reason'),
    [('{"images": [{', 'is no COCO annotation file'), ('[]', "it has no list 'categories'")],
)
def test_broken_annotation_file(run, data, content, reason):
    (data / 'coco/annotations/instances_val2017.json').write_text(content)
    text = message(run('train', DET))
    assert reason in text
    assert 'instances_val2017.json' in text


def test_empty_image_folder(run, data):
    for path in (data / 'ADEChallengeData2016/images/training').iterdir():
        path.rename(path.with_suffix('.jpeg'))
    assert 'no images found in' in message(run('train', SEG))


def test_categories_of_another_data_set(run, data):
    write_coco(data / 'coco', 'train', 3, ('date', 'fig', 'hazelnut'))
    text = message(run('train', DET))
    assert '80 of the 80 class names of the config are not among the 3 categories' in text
    assert 'person, bicycle' in text
    options = text.split('--cfg-options ')[1].replace('"', '').split()
    assert 'model.roi_head.mask_head.num_classes=3' in options
    write_coco(data / 'coco', 'val', 2, ('date', 'fig', 'hazelnut'))
    result = run('train', DET, '--cfg-options', *options)
    assert '3 train images, 3 classes' in result.out


@pytest.mark.parametrize('name', ['traffic light', '7', "cook's", 'a,b'])
def test_names_that_options_cannot_carry(run, data, name):
    write_coco(data / 'coco', 'train', 3, (name, 'fig'))
    text = message(run('train', DET))
    assert f'set metainfo=dict(classes={(name, "fig")}) for each data set' in text


def test_number_of_classes_of_the_heads(run):
    option = 'model.roi_head.mask_head.num_classes=3'
    text = message(run('train', DET, '--cfg-options', option))
    assert 'train_dataloader.dataset has 80 classes, but model.roi_head.mask_head' in text
    assert 'bbox_head.num_classes=80 model.roi_head.mask_head.num_classes=80' in text
    text = message(run('train', SEG, '--cfg-options', 'model.decode_head.num_classes=19'))
    assert '150 classes, but model.decode_head.num_classes=19' in text


def test_number_of_classes_of_a_cascade(run, tmp_path):
    path = config(
        tmp_path,
        DET,
        """
model = dict(roi_head=dict(bbox_head=[
    dict(type='Shared2FCBBoxHead', num_classes=n) for n in (80, 20)]))""",
    )
    assert 'but model.roi_head.bbox_head.1.num_classes=20.' in message(run('train', path))


def test_order_and_unused_categories_are_warnings(run, data):
    write_coco(data / 'coco', 'train', 3, [*reversed(NAMES), 'unicorn'])
    result = run('train', DET)
    assert result.code == 0
    assert 'another order than train_dataloader.dataset.metainfo.classes' in result.err
    assert '1 categories of' in result.err
    assert 'unicorn' in result.err


def test_label_beyond_the_classes(run, data):
    path = data / 'ADEChallengeData2016/annotations/training/1.png'
    write_image(path, np.full((32, 32), 151))
    text = message(run('train', SEG))
    assert f'{path} has label 150 (after reduce_zero_label), but 150 classes end at 149' in text
    write_image(path, np.full((32, 32), 0))  # ignored
    assert run('train', SEG).code == 0


def test_label_map_is_absent_coloured_or_damaged(run, data):
    path = data / 'ADEChallengeData2016/annotations/training/2.png'
    write_image(path, np.zeros((32, 32, 3)))
    assert f'{path} is a colour picture' in message(run('train', SEG))
    path.write_bytes(path.read_bytes()[:60])
    assert f'cannot read {path}' in message(run('train', SEG))
    path.unlink()
    assert f'no label map {path}' in message(run('train', SEG))


def test_own_class_names_for_ade(run):
    option = "train_dataloader.dataset.metainfo.classes=('cat','dog')"
    assert 'use type=BaseSegDataset' in message(run('train', SEG, '--cfg-options', option))


@pytest.fixture(scope='module')
def weights():
    """The weights of the segmentor's config."""
    from mmengine.config import Config
    from mmengine.registry import MODELS, DefaultScope

    with DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(Config.fromfile(SEG).model).state_dict()


def test_missing_and_corrupt_checkpoint(run, tmp_path):
    path = tmp_path / 'epoch.pth'
    assert f'checkpoint not found: {path}' in message(run('test', SEG, path))
    path.write_bytes(b'not a checkpoint')
    assert str(path) in message(run('test', SEG, path))
    assert str(path) in message(run('train', SEG, '--resume', path))


def test_checkpoint_of_another_model(run, tmp_path, weights):
    path = tmp_path / 'other.pth'
    torch.save({'state_dict': {f'net.{k}': v for k, v in weights.items()}}, path)
    text = message(run('train', SEG, '--cfg-options', f'load_from={path}'))
    number = len(weights)
    assert f'{path} is of another model: 0 loaded' in text
    assert f'{number} missing, {number} unexpected' in text


def test_checkpoint_with_gaps_is_a_warning(run, tmp_path, weights):
    path = tmp_path / 'gaps.pth'
    torch.save({k: v for k, v in weights.items() if 'conv_seg' not in k}, path)
    result = run('test', SEG, path)
    assert result.code == 0
    assert f'{len(weights) - 2} loaded' in result.err
    assert 'not loaded: decode_head.conv_seg.weight, decode_head.conv_seg.bias' in result.err


def test_whole_checkpoint_and_address_are_silent(run, tmp_path, weights):
    path = tmp_path / 'whole.pth'
    torch.save({'state_dict': weights, 'meta': {}}, path)
    assert run('test', SEG, path).err == ''
    assert run('test', SEG, 'https://host/absent.pth').err == ''


def test_resume_reads_the_last_checkpoint_of_the_work_dir(run, tmp_path):
    result = run('train', SEG, '--work-dir', tmp_path, '--resume')
    assert f'warning: --resume: no checkpoint in {tmp_path}, training starts from' in result.err
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_5.pth'))
    text = message(run('train', SEG, '--work-dir', tmp_path, '--resume'))
    assert f'checkpoint not found: {tmp_path}/iter_5.pth' in text


def options(text: str) -> list[str]:
    """The options that a message recommends."""
    return text.split('--cfg-options ')[1].split()


@pytest.fixture
def folders(data):
    """An ImageNet of three classes, with one picture of each in training, one in validation."""
    root = data / 'imagenet'
    for split in ('train', 'val'):
        for name in ('date', 'fig', 'hazelnut'):
            write_image(root / split / name / f'{name}.jpg', np.zeros((32, 32, 3)))
    return root


THREE = [
    '--cfg-options',
    'model.head.num_classes=3',
    'model.data_preprocessor.num_classes=3',
]


@needs_mmpretrain
def test_class_folders_against_the_head(run, folders):
    text = message(run('train', CLS))
    assert 'train_dataloader.dataset has 3 classes, but model.head.num_classes=1000' in text
    assert options(text) == THREE[1:]
    result = run('train', CLS, '--work-dir', 'here', *THREE)
    assert result.out.splitlines()[-1] == (
        f'mmpretrain train: {CLS}, work dir here, 3 train images, 3 classes'
    )
    assert result.err == ''
    assert result.argv[0].endswith('mmpretrain/.mim/tools/train.py')
    assert result.argv[1:] == [CLS, '--work-dir', 'here', *THREE]
    text = message(run('train', CLS, *THREE[:2]))
    assert 'has 3 classes, but model.data_preprocessor.num_classes=1000. For 3 classes' in text


@needs_mmpretrain
def test_missing_imagenet_shows_the_expected_tree(run, folders):
    (folders / 'val').rename(folders / 'validation')
    result = run('train', CLS, *THREE)
    assert f'data not found: {folders}/val (val_dataloader.dataset)' in message(result)
    assert 'set MMCA_DATA_ROOT to the folder that holds imagenet/' in message(result)
    assert 'train_dataloader.dataset.data_root=DIR' in message(result)
    assert message(result).endswith('Expected (one folder a class in each):')
    assert result.err.splitlines()[1:] == [
        f'  {folders}/',
        '    train/',
        '    val/   <- missing',
    ]
    result = run('train', CLS, '--no-validate', *THREE)
    assert result.argv[1:] == [CLS, '--no-validate', *THREE]
    place = 'val_dataloader.dataset.data_prefix.img_path=validation'
    assert 'do not fit' in message(run('train', CLS, *THREE, place))
    assert run('train', CLS, *THREE, place.replace('.img_path', '')).code == 0


@needs_mmpretrain
def test_classes_of_training_and_validation_differ(run, folders):
    (folders / 'val/fig').rename(folders / 'val/grape')
    text = message(run('train', CLS, *THREE))
    assert 'train_dataloader.dataset and val_dataloader.dataset have different classes' in text
    assert text.endswith('only one of them has fig, grape')


@needs_mmpretrain
def test_folders_without_pictures(run, folders):
    for path in (folders / 'train').glob('*/*.jpg'):
        path.rename(path.with_suffix('.txt'))
    assert 'train_dataloader.dataset: Found 0 files' in message(run('train', CLS, *THREE))


@needs_mmpretrain
@pytest.mark.parametrize(
    ('lines', 'expected'),
    [
        ('date/date.jpg 0\nfig/fig.jpg 3', 'fig/fig.jpg the label 3, but 3 classes end at 2'),
        ('date/date.jpg 0\nplum.jpg 1', 'lists an image that is not there: {}/train/plum.jpg'),
        ('date/date.jpg', 'train_dataloader.dataset: '),
        (
            'date/date.jpg fig',
            'train_dataloader.dataset: invalid literal for int()',
        ),
    ],
)
def test_list_of_labels(run, folders, lines, expected):
    (folders / 'train.txt').write_text(lines)
    own = ['train_dataloader.dataset.ann_file=train.txt']
    assert 'CustomDataset has no class names' in message(run('train', CLS, *THREE, *own))
    own.append("train_dataloader.dataset.metainfo.classes=('date','fig','hazelnut')")
    assert expected.format(folders) in message(run('train', CLS, *THREE, *own))
    (folders / 'train.txt').write_text('date/date.jpg 0\nfig/fig.jpg 1')
    assert '2 train images, 3 classes' in run('train', CLS, *THREE, *own).out


@needs_mmpretrain
def test_data_sets_of_other_kinds_are_left_to_the_library(run, folders):
    cifar = 'train_dataloader.dataset.type=CIFAR10'
    assert '0 train images, 3 classes' in run('train', CLS, *THREE, cifar).out


@needs_mmpretrain
def test_transforms_of_an_absent_torchvision(run, folders):
    run('train', CLS, *THREE)
    if importlib.import_module('torchvision').__version__ != 'not installed':
        pytest.skip('torchvision is installed')
    transforms = importlib.import_module('mmpretrain.registry').TRANSFORMS
    with pytest.raises(InputError, match='this needs torchvision, which is not installed'):
        transforms.build(dict(type='mmpretrain.torchvision/RandomResizedCrop', size=224))


@needs_mmpretrain
def test_flags_of_one_library(run, folders):
    text = message(run('train', DET, '--no-validate'))
    assert '--no-validate: mmdet has no such flag; use --cfg-options val_cfg=None' in text
    text = message(run('test', CLS, 'x.pth', '--out', 'result.json'))
    assert '--out result.json: the name must end in .pkl' in text
    text = message(run('test', CLS, 'x.pth', '--out', 'a.txt', '--out-item', 'metrics'))
    assert '--out a.txt: the name must end in .json' in text
    assert 'needs --out FILE' in message(run('test', CLS, 'x.pth', '--out-item', 'pred'))
    argv = ['http://x/y.pth', '--out', 'a.json', '--out-item', 'metrics']
    assert run('test', CLS, *argv, *THREE).argv[2:7] == argv


@needs_mmpretrain
def test_checkpoint_of_a_detector_for_a_classifier(run, folders, tmp_path, weights):
    path = tmp_path / 'other.pth'
    torch.save({'state_dict': weights}, path)
    text = message(run('test', CLS, path, *THREE))
    assert f'{path} is of another model: 0 loaded' in text
    assert f'checkpoint not found: {tmp_path}/no.pth' in message(
        run('test', CLS, tmp_path / 'no.pth', *THREE)
    )
