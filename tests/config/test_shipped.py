"""Finding shipped configs by name, in a checkout and in an installed package."""

import pytest

from mmca.config import shipped
from mmca.config.shipped import config_names, config_root, find_config
from mmca.errors import InputError
from tests.helpers import CONFIGS

FILE = str(CONFIGS / 'coco/maskrcnn_ca_pvt_s.py')


def test_the_root_is_the_checkout_or_the_package(tmp_path, monkeypatch):
    assert config_root() == CONFIGS
    package = tmp_path / 'mmca'
    monkeypatch.setattr(shipped, 'PACKAGE', package)
    assert shipped.checkout() is None
    with pytest.raises(InputError, match='install mmca again'):
        config_root()
    (package / '.mim/configs').mkdir(parents=True)
    assert config_root() == package / '.mim/configs'


def test_names_are_those_of_all_configs_but_bases():
    names = config_names()
    assert 'coco/maskrcnn_ca_pvt_s' in names
    assert 'mini/upernet_ca_swin_mini' in names
    assert not any(name.startswith('_base_') for name in names)
    assert len(names) == sum(len(list(folder.glob('*.py'))) for folder in CONFIGS.glob('[a-z]*'))


@pytest.mark.parametrize('prefix', ['', 'configs/', './configs/'])
@pytest.mark.parametrize('suffix', ['', '.py'])
def test_a_name_may_be_written_in_several_ways(tmp_path, monkeypatch, prefix, suffix):
    monkeypatch.chdir(tmp_path)
    assert find_config(f'{prefix}coco/maskrcnn_ca_pvt_s{suffix}') == FILE


def test_a_file_goes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'coco').mkdir()
    (tmp_path / 'coco/maskrcnn_ca_pvt_s.py').write_text('')
    own = 'coco/maskrcnn_ca_pvt_s.py'
    assert find_config(own) == own
    assert find_config(FILE) == FILE


@pytest.mark.parametrize(
    ('name', 'nearest'),
    [
        ('coco/maskrcnn_ca_pvt_x', 'coco/maskrcnn_ca_pvt_'),
        ('maskrcnn_ca_pvt_s', 'coco/maskrcnn_ca_pvt_s'),
        ('ade20k/maskrcnn_ca_pvt_s', 'coco/maskrcnn_ca_pvt_s'),
        ('configs/ade20k/upernet_swin_tiny.py', 'ade20k/upernet_swin_t'),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, nearest):
    with pytest.raises(InputError, match=f'config not found: {name}; nearest .*{nearest}'):
        find_config(name)


@pytest.mark.parametrize('name', ['coco', '', 'absent.py', '../pyproject', 'coco/../../setup'])
def test_what_is_no_config_is_refused(name):
    with pytest.raises(InputError, match=f'config not found: {name}'):
        find_config(name)
