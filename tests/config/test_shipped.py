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
    with pytest.raises(InputError, match='reinstall mmca'):
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
    name = f'{prefix}coco/maskrcnn_ca_pvt_s{suffix}'
    assert find_config(name) == FILE == find_config(FILE)
    if suffix:  # a file goes before a name
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text('')
        assert find_config(name) == name


@pytest.mark.parametrize(
    ('name', 'hint'),
    [
        ('coco/maskrcnn_ca_pvt_x', '; closest .*coco/maskrcnn_ca_pvt_'),
        ('maskrcnn_ca_pvt_s', '; closest .*coco/maskrcnn_ca_pvt_s'),
        ('configs/ade20k/upernet_swin_tiny.py', '; closest .*ade20k/upernet_swin_t'),
        ('coco', ''),
        ('', ''),
        ('../pyproject', ''),
        ('coco/../../setup', ''),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, hint):
    with pytest.raises(InputError, match=f'config not found: {name}{hint}'):
        find_config(name)
