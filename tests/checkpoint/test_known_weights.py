"""Names and addresses in the place of files."""

from pathlib import Path

import pytest

from mmca.backbones import PVT
from mmca.checkpoint import KNOWN, find_file, read_checkpoint
from mmca.engine.safe_loading import load_from_local
from mmca.errors import InputError
from tests.helpers import empty_weights

MIRROR = 'MMCA_WEIGHTS_MIRROR'


def test_names_addresses_and_files_in_the_cache_are_unique():
    for field in ('name', 'address', 'path'):
        assert len({getattr(known, field) for known in KNOWN.values()}) == len(KNOWN)
    for known in KNOWN.values():
        assert known.address.startswith('https://')
        # The names of many files end in their hashes.
        digits = known.path.stem.rpartition('-')[2]
        assert known.sha256.startswith(digits) or '-' not in known.path.stem


@pytest.mark.parametrize('read', [read_checkpoint, load_from_local])
def test_an_address_is_read_as_a_file_is(read, cache, server):
    server.content = empty_weights('pvt_t')
    found = read(server.address('good'))
    tensors = found.tensors if read is read_checkpoint else found['model']
    assert tensors['pos_embed1'].shape == (1, 3136, 64)


def test_init_cfg_takes_a_name(cache):
    cache.mkdir(parents=True)
    (cache / 'pvt_tiny.pth').write_bytes(empty_weights('pvt_t'))
    model = PVT('tiny', init_cfg=dict(type='Pretrained', checkpoint='pvt_tiny'))
    model.init_weights()
    assert not any(value.any() for value in model.state_dict().values())


def test_a_local_file_of_that_name_comes_first(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('deit_tiny').write_bytes(empty_weights('deit_t'))
    assert find_file('deit_tiny') == Path('deit_tiny')
    monkeypatch.setenv('HOME', str(tmp_path))
    assert find_file('~/deit_tiny') == tmp_path / 'deit_tiny'


def test_names_are_downloaded_from_a_mirror_and_checked(cache, server, monkeypatch):
    monkeypatch.setenv(MIRROR, server.address('good', ''))
    assert find_file('pvt_tiny') == cache / 'pvt_tiny.pth'
    with pytest.raises(InputError, match=r'its SHA-256 begins with [0-9a-f]{8}, not a1311bcf'):
        find_file('deit_tiny')
    assert [path for path, _ in server.requests] == [
        '/good/pvt_tiny.pth',
        '/good/deit_tiny_patch16_224-a1311bcf.pth',
    ]
    monkeypatch.delenv(MIRROR)  # the file is the publisher's, wherever it came from
    assert find_file('pvt_tiny') == cache / 'pvt_tiny.pth'


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('swin_tinny', 'closest names in `mmca weights`: swin_tiny, cswin_tiny, mm_swin_tiny'),
        ('PVT_small', 'closest names in `mmca weights`: pvt_small'),
        ('work_dirs/x/epoch_1.pth', r'^checkpoint not found: work_dirs/x/epoch_1\.pth$'),
        ('torchvision://resnet50', r'not found: torchvision://resnet50; mmca reads only http'),
    ],
)
def test_an_unknown_name_gives_the_nearest(name, expected, cache):
    with pytest.raises(InputError, match=expected):
        find_file(name)
