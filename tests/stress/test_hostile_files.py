"""Hostile files through every entry point that reads one.

No code runs, no process dies, no memory of gigabytes is taken, and a refusal is one line.
The long form takes every file through every entry point.
"""

import pickle
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mmengine.registry import MODELS, DefaultScope

from mmca.config.reader import load_config
from tests.hostile import WRAPS, beside_weights, call, corpus, name, odd_files, saved, text
from tests.stress import forked
from tests.stress.good_data import write_config, write_good

MEGABYTES = 1600  # that a command may take beyond torch, mmdet and mmseg


class Site:
    """A folder with a small model's config and data, hostile files, and a server for them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.planted = folder, folder / 'planted'  # the second if code has run
        write_good(folder, 'ade', number=2)
        (folder / 'unlabeled').mkdir()
        for i in range(20):  # the fewest that mmca distill takes
            shutil.copy(folder / 'images/test/0.jpg', folder / f'unlabeled/{i}.jpg')
        self.config = write_config(folder, 'ade', "\ntrain_cfg['max_epochs'] = 1")
        with DefaultScope.overwrite_default_scope('mmseg'):
            weights = MODELS.build(load_config(str(self.config)).model).state_dict()
        self.good = self._write('good.pth', saved({'meta': {}, 'state_dict': weights}))
        self.files = [self._write(*item) for item in odd_files(weights, folder).items()]
        for label, opcodes in corpus(self.planted).items():
            # Tuples in tuples are data, however deep, and may be loaded where weights are.
            if label != 'deep nesting':
                content = beside_weights(opcodes, weights)
                self.files.append(self._write(f'{label} beside weights.pth', content))
            for kind in ('legacy', 'bare pickle', 'tar'):
                self.files.append(self._write(f'{label}, {kind}.pth', WRAPS[kind](opcodes)))
        handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
        handler.func.log_message = lambda *_: None
        self.server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _write(self, name: str, content: bytes) -> Path:
        path = self.folder / ''.join(c if c.isalnum() or c == '.' else '_' for c in name)
        path.write_bytes(content)
        return path

    def run(self, entry_point: str, path: Path) -> forked.Outcome:
        """Make an entry point read a file."""
        address = f'http://127.0.0.1:{self.server.server_address[1]}/{path.name}'
        argv = entry_points(self.folder, self.config, path, address)[entry_point]
        return forked.run(lambda: forked.mmca(argv), self.folder)


def entry_points(folder: Path, config: Path, path: Path, address: str) -> dict[str, list[str]]:
    """Entry point -> command line, for a file at a path and at an address."""
    image = str(folder / 'images/test/0.jpg')
    train, test, check = ([command, str(config)] for command in ('train', 'test', 'check'))

    def pretrained(part: str, where: object = path) -> list[str]:
        init_cfg = f'model.{part}.init_cfg'.replace('..', '.')
        options = f'{init_cfg}.type=Pretrained', f'{init_cfg}.checkpoint={where}'
        return [*train, '--cfg-options', *options]

    return {
        'inspect': ['inspect', str(path)],
        'inspect --config': ['inspect', str(path), '--config', str(config)],
        'visualize': [
            *('visualize', str(config), str(path), image),
            *('--side', '32', '--out', str(folder / 'kernels.png')),
        ],
        'predict': ['predict', str(config), str(path), image, '--out', str(folder / 'predicted')],
        'distill': [
            *('distill', str(config), str(path), '--images', str(folder / 'unlabeled')),
            *('--out', str(folder / 'distilled.pth'), '--iters', '2', '--side', '64'),
            *('--batch-size', '1', '--workers', '0'),
        ],
        'test': [*test, '--cfg-options', f'load_from={path}'],
        'test, an address': [*test, '--cfg-options', f'load_from={address}'],
        'check --load-from': [*check, '--load-from', str(path)],
        'check --resume': [*check, '--resume', str(path)],
        'train --resume': [*train, '--cfg-options', f'load_from={path}', 'resume=True'],
        'train, load_from': [*train, '--cfg-options', f'load_from={path}'],
        'train, load_from an address': [*train, '--cfg-options', f'load_from={address}'],
        'init_cfg of a backbone': pretrained('backbone'),
        'init_cfg of a neck': pretrained('neck'),
        'init_cfg of a model': pretrained(''),
        'init_cfg of a head, an address': pretrained('decode_head', address),
    }


ENTRY_POINTS = list(entry_points(Path(), Path(), Path(), ''))


@pytest.fixture(scope='module')
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp('hostile')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TORCH_HOME', str(folder / 'cache'))
        found = Site(folder)
        yield found
        found.server.shutdown()


def fault(site: Site, outcome: forked.Outcome) -> str:
    """What went wrong, or ''."""
    if site.planted.exists() or list(site.folder.glob('x')):
        site.planted.unlink(missing_ok=True)
        return 'code was run'
    if outcome.megabytes > MEGABYTES:
        return f'{outcome.megabytes} MB'
    fine = outcome.code == 0 and 'Traceback' not in outcome.text
    return '' if fine or outcome.refused else f'exit code {outcome.code}: {outcome.text[-600:]}'


@pytest.mark.slow
def test_a_sample_through_every_entry_point(site):
    faults = {}
    for number, entry_point in enumerate(ENTRY_POINTS):
        path = site.files[(17 * number) % len(site.files)]
        if what := fault(site, site.run(entry_point, path)):
            faults[entry_point, path.name] = what
    assert not faults


def test_data_files_and_configs_execute_nothing(site):
    touch = f'touch {site.planted}'
    (site.folder / 'hostile.yaml').write_text(f'a: !!python/object/apply:os.system ["{touch}"]')
    code = call(name('os', 'system'), text(touch))
    (site.folder / 'hostile.pkl').write_bytes(WRAPS['bare pickle'](code))
    (site.folder / 'good.pkl').write_bytes(pickle.dumps({'metainfo': {}, 'data_list': []}))
    dataset = "dict(_delete_=True, type='mmdet.BaseDetDataset', pipeline=[], ann_file={!r})"
    for file in ('hostile.pkl', 'hostile.yaml', 'good.pkl'):
        data = dataset.format(str(site.folder / file))
        config = site.config.with_name('reads.py')
        base = f'_base_ = {site.config.name!r}\n'
        config.write_text(f'{base}train_dataloader = dict(dataset={data})\n')
        outcome = forked.run(lambda path=str(config): forked.mmca(['train', path]), site.folder)
        assert outcome.refused, outcome.text
        assert ('which could run code' in outcome.text) == (file == 'hostile.pkl')
    for argv in (['check', 'hostile.yaml'], ['train', 'hostile.yaml']):
        outcome = forked.run(lambda argv=argv: forked.mmca(argv), site.folder)
        assert outcome.refused, outcome.text
    assert not site.planted.exists()


@pytest.mark.stress
@pytest.mark.parametrize('entry_point', ENTRY_POINTS)
def test_every_file_through_every_entry_point(entry_point, site):
    good = site.run(entry_point, site.good)
    if entry_point.endswith('--resume'):
        assert 'contains only weights, no training state' in good.text
    else:
        assert good.code == 0, good.text
    faults = {path.name: fault(site, site.run(entry_point, path)) for path in site.files}
    assert {name: what for name, what in faults.items() if what} == {}
