"""Runs that leave logs, and the page made of them."""

import json
import shutil
from itertools import pairwise

import pytest
import torch
import yaml

from experiments.metafiles import write_results
from experiments.report import SECONDS, write_report
from experiments.rows import TABLES, TRANSFERS
from experiments.run import DATA, RESULTS, ROOT, Lab, run_missing, run_transfers
from mmca.config.reader import load_config

TABLE = TABLES['camvid_deit']


class Pretended(Lab):
    """Writes what mmengine would log instead of training."""

    called: list

    def call(self, argv, work):
        self.called = [*getattr(self, 'called', []), argv]
        folder = work / 'first' / 'vis_data'
        folder.mkdir(parents=True)
        files, entries = [], []
        if argv[0] == 'train':
            seed = int(next(w for w in argv if 'seed=' in w)[-1])
            files = [work / 'iter_20.pth']
            (work / 'last_checkpoint').write_text(str(files[0]))
            entries = [{'loss': 1.0, 'time': 0.5, 'iter': 20}, {'mIoU': 40.0 + seed}]
        elif argv[0] == 'test':
            (work / 'first' / 'first.json').write_text('{"mIoU": 33.0}')
        else:
            files = [b for a, b in pairwise(argv) if a in ('--out', '--model-out')]
            entries = [
                {'mean/error': 0.9, 'mean/cosine': 0.5},
                {'loss': 0.3, 'time': 2.0, 'iter': 60},
                {'mean/error': 0.4, 'mean/cosine': 0.8},
            ]
        for file in files:
            torch.save({'state_dict': {'backbone.a': torch.zeros(2)}}, file)
        (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, entries)))


@pytest.fixture
def lab(tmp_path):
    return Pretended(tmp_path / 'work', '/far/deit.pth', ['/far/images'], tmp_path / 'results')


def test_each_run_is_done_once_and_the_page_shows_its_seeds(lab):
    rows = ['ca_converted', 'ca_transferred']
    run_missing(lab, [TABLE], rows, jobs=2)
    trained = [argv for argv in lab.called if argv[0] == 'train']
    assert len(trained) == 2 * TABLE.seeds
    assert len(lab.called) == len(trained) + 1  # one distillation for all seeds
    assert all('model.backbone.pos_embed=True' in argv for argv in trained)
    for record in (json.loads(file.read_text()) for file in lab.results.rglob('*.json')):
        assert str(lab.work) not in record['command']
        assert '/far/' not in record['command']
        assert record.keys() == {'command', 'commit', 'date', 'machine', 'torch', 'sha256', 'log'}
    lab.called.clear()
    run_missing(lab, [TABLE], rows, jobs=2)
    assert lab.called == []
    seconds = {'camvid_deit': {'seconds': {'ca_transferred': [0.5, 0.7, 0.4]}}}
    (lab.results / SECONDS).write_text(json.dumps(seconds))
    page = write_report(lab.results).read_text()
    row = '| CA-DeiT-T, distilled | 41.0 (40.0 to 42.0) | 3 | 6.44 | 2.40 | 0.50 | 0.400 |'
    assert row in page
    assert '| circulant | 60 | 0.900 → 0.400 | 0.500 → 0.800 | 2 |' in page
    assert (lab.results / 'camvid_deit.png').stat().st_size > 10_000


def test_images_of_a_distillation(lab, tmp_path):
    for index in range(400):
        (tmp_path / f'{index}.jpg').touch()
    lab.images = [str(tmp_path)]
    run_transfers(lab, [TRANSFERS[name] for name in ('images_300', 'short', 'own_images')], jobs=2)
    folders = {argv[argv.index('--images') + 1] for argv in lab.called}
    own = f'{DATA}/camvid/images/training'
    assert folders == {str(tmp_path), str(lab.work / 'images_300'), own}
    assert len(list((lab.work / 'images_300').iterdir())) == 300


def test_a_model_without_labels_has_the_head_of_its_teacher(lab):
    run_missing(lab, [TABLES['camvid_unlabeled']], ['fpn_ca_pvt_t'], jobs=1)
    assert [argv[0] for argv in lab.called] == ['train', 'distill', 'test'] * 2
    assert (lab.results / 'camvid_scratch' / 'fpn_pvt_t_seed1.json').exists()
    distill, test = lab.called[-2:]
    assert distill[2] == str(lab.work / 'camvid_scratch' / 'fpn_pvt_t_seed1' / 'iter_20.pth')
    assert test[2] == distill[distill.index('--model-out') + 1]
    page = write_report(lab.results).read_text()
    assert '| CA-PVT-T, distilled from PVT-T, no labels | 33.0 (33.0 to 33.0) | 2 |' in page
    # Its teacher, which another table lists, too, and whose runs were not repeated.
    assert '| PVT-T, with labels | 40.5 (40.0 to 41.0) | 2 |' in page


@pytest.mark.parametrize('table', TABLES.values(), ids=TABLES)
def test_rows_are_of_shipped_configs(table):
    for row in table.rows:
        assert load_config(row.config, list(row.options)).model.backbone.type.startswith('mmca.')
    assert set(table.plotted) <= {row.name for row in table.rows}


def test_metafiles_have_the_results_of_the_logs(tmp_path):
    """Writing them again changes nothing, and without logs nothing is left of them."""
    shutil.copytree(ROOT / 'configs', tmp_path / 'configs')
    metafile = tmp_path / 'configs/camvid/metafile.yml'
    committed = metafile.read_text()
    assert 'Source: mmca' in committed
    write_results(RESULTS, tmp_path / 'configs')
    assert metafile.read_text() == committed
    write_results(tmp_path, tmp_path / 'configs')
    bare = yaml.safe_load(metafile.read_text())
    assert all('Results' not in model for model in bare['Models'])
    full = yaml.safe_load(committed)
    (model,) = (m for m in full['Models'] if m['Name'] == 'fpn_deit_t')
    log = json.loads((ROOT / model['Results'][0]['Log']).read_text())
    assert model['Results'][0]['Command'] == log['command']
    last = [entry['mIoU'] for entry in log['log'] if 'mIoU' in entry][-1]
    assert model['Results'][0]['Metrics'] == {'mIoU': last}
