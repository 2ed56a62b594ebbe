"""Hostile files through every entry point that reads one.

No code runs, no process dies, no memory of gigabytes is taken, and one line says what is wrong.
The long form takes every file through every entry point.
"""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from tests.helpers import SMALL_IMAGES, TINY, write_ade
from tests.hostile import WRAPS, beside_weights, corpus, odd_files, saved
from tests.stress.driver import Outcome

MEGABYTES = 2500  # that a process may take: torch, mmseg and a small model are 700
# These take the weights that they find and leave out what is beside them.
READERS = ('inspect', 'inspect --config', 'kernels', 'init_cfg of a backbone')


class Site:
    """A folder with a small model's config and data, hostile files, and a server for them.

    Attributes:
        planted: what would exist if code of a file had run.
        files: the hostile files.
        good: a checkpoint that can be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.planted = folder, folder / 'planted'
        write_ade(folder, 2, 1)
        self.config = folder / 'tiny.py'
        self.config.write_text(TINY)
        weights = self._weights()
        self.good = folder / 'good.pth'
        self.good.write_bytes(saved({'meta': {}, 'state_dict': weights}))
        self.files = [
            self._write(name, content) for name, content in odd_files(weights, folder).items()
        ]
        for label, opcodes in corpus(self.planted).items():
            # Tuples in tuples are data, however deep, and may be loaded where weights are.
            for kind in ('zip', 'legacy') if label != 'deep nesting' else ():
                content = beside_weights(opcodes, weights, kind == 'zip')
                self.files.append(self._write(f'{label} beside weights, {kind}.pth', content))
            for kind in ('bare pickle', 'tar'):
                self.files.append(self._write(f'{label}, {kind}.pth', WRAPS[kind](opcodes)))
        handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
        handler.func.log_message = lambda *_: None
        self.server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _write(self, name: str, content: bytes) -> Path:
        path = self.folder / ''.join(c if c.isalnum() or c == '.' else '_' for c in name)
        path.write_bytes(content)
        return path

    def _weights(self) -> dict[str, torch.Tensor]:
        from mmengine.registry import MODELS, DefaultScope

        from mmca.config.reader import library_of, load_config

        cfg = load_config(str(self.config))
        with DefaultScope.overwrite_default_scope(library_of(cfg, '')):
            return MODELS.build(cfg.model).state_dict()

    def command(self, entry_point: str, path: Path) -> list[str]:
        """The command line that makes an entry point read a file."""
        address = f'http://127.0.0.1:{self.server.server_address[1]}/{path.name}'
        return entry_points(self.folder, self.config, path, address)[entry_point]


def entry_points(folder: Path, config: Path, path: Path, address: str) -> dict[str, list[str]]:
    """Entry point -> command line, for a file at a path and at an address."""
    end = ['--work-dir', str(folder / 'work'), '--cfg-options', *SMALL_IMAGES]
    images = str(folder / 'ADEChallengeData2016')
    train, test, check = ([command, str(config)] for command in ('train', 'test', 'check'))

    def pretrained(part: str, where: object = path) -> list[str]:
        init_cfg = f'model.{part}.init_cfg'.replace('..', '.')
        return [*train, *end, f'{init_cfg}.type=Pretrained', f'{init_cfg}.checkpoint={where}']

    return {
        'inspect': ['inspect', str(path)],
        'inspect --config': ['inspect', str(path), '--config', str(config)],
        'kernels': [
            *('kernels', str(config), str(path), f'{images}/images/validation/0.jpg'),
            *('--side', '32', '--out', str(folder / 'kernels.png')),
        ],
        'test': [*test, str(path), *end],
        'test, an address': [*test, address, *end],
        'check --load-from': [*check, '--load-from', str(path), *end],
        'check --resume': [*check, '--resume', str(path), *end],
        'train --resume': [*train, '--resume', str(path), *end],
        'train, load_from': [*train, *end, f'load_from={path}'],
        'train, load_from an address': [*train, *end, f'load_from={address}'],
        'init_cfg of a backbone': pretrained('backbone'),
        'init_cfg of a neck': pretrained('neck'),
        'init_cfg of a head': pretrained('decode_head'),
        'init_cfg of a model': pretrained(''),
        'init_cfg of a neck, an address': pretrained('neck', address),
    }


ENTRY_POINTS = list(entry_points(Path(), Path(), Path(), ''))


@pytest.fixture(scope='module')
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp('hostile')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MMCA_DATA_ROOT', str(folder))
        patch.setenv('TORCH_HOME', str(folder / 'cache'))
        found = Site(folder)
        yield found
        found.server.shutdown()


def fault(site: Site, path: Path, outcome: Outcome) -> str:
    """What went wrong, or ''."""
    if site.planted.exists() or list(site.folder.glob('x')):
        site.planted.unlink(missing_ok=True)
        return 'code was run'
    if outcome.megabytes > MEGABYTES:
        return f'{outcome.megabytes} MB'
    lines = [line for line in outcome.text.splitlines() if line.startswith('error: ')]
    if 'Traceback' not in outcome.text:
        if outcome.code == 0:
            return ''
        if outcome.code == 2 and len(lines) == 1 and path.name in lines[0]:
            return ''
    return f'exit code {outcome.code}: {outcome.text[-600:]}'


@pytest.mark.slow
def test_a_sample_through_every_entry_point(site, driver):
    faults = {}
    for number, entry_point in enumerate(ENTRY_POINTS):
        path = site.files[(17 * number) % len(site.files)]
        if what := fault(site, path, driver.run(site.command(entry_point, path))):
            faults[entry_point, path.name] = what
    assert not faults


@pytest.mark.stress
@pytest.mark.parametrize('entry_point', ENTRY_POINTS)
def test_every_file_through_every_entry_point(entry_point, site, driver, tally):
    good = driver.run(site.command(entry_point, site.good))
    if entry_point.endswith('--resume'):
        assert 'holds weights, not the state of a training' in good.text
    else:
        assert good.code == 0, good.text
    faults = {}
    for path in site.files:
        outcome = driver.run(site.command(entry_point, path))
        what = fault(site, path, outcome)
        if outcome.code == 0 and entry_point not in READERS:
            what = what or 'it was loaded'
        if what:
            faults[path.name] = what
    print(*(f'{name}: {what}' for name, what in faults.items()), sep='\n')
    tally(f'hostile files through {entry_point}', len(site.files), len(site.files) - len(faults))
