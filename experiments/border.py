"""Test a trained model on padded images, and without the wrapping of circulant attention."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from mmengine.registry import MODELS

from experiments.run import Lab
from mmca import find_config
from mmca.config.reader import library_of, load_config

DIVISORS = {'mmdet': 'model.data_preprocessor.pad_size_divisor'}
MMSEG = 'model.data_preprocessor.test_cfg.size_divisor'
LETTERS = {'C': 'U', 'K': 'V'}  # wrapped -> unwrapped
NAMES = {'circulant': 'unwrapped', 'keyed_circulant': 'unwrapped_keyed'}
UNWRAPPED = """\
_base_ = {!r}
custom_imports = dict(imports=['mmca', 'experiments.unwrapped'])
"""


def border_table(
    lab: Lab,
    config: str,
    checkpoint: str,
    divisors: Sequence[int],
    options: Sequence[str] = (),
) -> Iterator[tuple[str, dict]]:
    """Name and metrics of each test: padded to multiples, wrapped and, for circulant, not.

    Args:
        lab: its folder takes the logs.
        config: the config of the training.
        checkpoint: its result.
        divisors: sides of images are padded with zeros to multiples of these.
        options: `--cfg-options` of the training.
    """
    cfg = load_config(config, options)
    key = DIVISORS.get(library_of(cfg, config), MMSEG)
    backbone = cfg.model.backbone
    attn = backbone.get('attn', MODELS.get(backbone.type).default_attn)
    kinds = {'': (config, [])}
    if set(attn) & set(LETTERS):
        letters = ''.join(LETTERS.get(letter, letter) for letter in attn)
        # Options come after custom_imports have been imported, so they need a file.
        lab.work.mkdir(parents=True, exist_ok=True)
        file = lab.work / 'unwrapped.py'
        file.write_text(UNWRAPPED.format(find_config(config)))
        unwrapped = [f'model.backbone.attn={letters}']
        for name, values in backbone.get('attn_cfg', {}).items():
            place = f'model.backbone.attn_cfg.{NAMES.get(name, name)}'
            unwrapped += [f'{place}.{option}={value}' for option, value in values.items()]
        kinds[', unwrapped'] = str(file), unwrapped
    for divisor in divisors:
        for kind, (used, changes) in kinds.items():
            work = lab.work / f'{Path(checkpoint).parent.name}_{divisor}{kind[2:]}'
            argv = ['test', used, checkpoint, '--work-dir', str(work), '--cfg-options']
            lab.call([*argv, *options, *changes, f'{key}={divisor}'], work)
            yield f'{divisor}{kind}', lab.tested(work)
