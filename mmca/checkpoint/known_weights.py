"""Published weights by name, and the files behind names and addresses."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

from mmca.checkpoint.download import cache_folder, download
from mmca.errors import InputError

MIRROR = 'MMCA_WEIGHTS_MIRROR'
# At the end of a file's name, the first digits of its SHA-256: torch.hub's convention.
HASH = re.compile(r'-([0-9a-f]{8,})\.pth$')
ARCH = re.compile(r'_(tiny|small|medium|base|large|b\d)')


class Release(NamedTuple):
    """A publisher."""

    repository: str  # GitHub's OWNER/NAME
    license: str  # of the repository: none states another for its weights
    start: str  # of its files' addresses


@dataclass(frozen=True)
class KnownWeights:
    """Published weights of one backbone.

    Attributes:
        name: such as 'swin_tiny'.
        backbone: class of `mmca.backbones` that has all of them.
        arch: its size.
        release: the publisher.
        megabytes: size in 2**20 bytes, as published or at four bytes per parameter.
        file: the rest of the address.
        sha256: the hash or its first digits; '' if none is published.
    """

    name: str
    backbone: str
    arch: str
    release: Release
    megabytes: int
    file: str
    sha256: str = ''

    @property
    def address(self) -> str:
        """The publisher's address of the file."""
        return self.release.start + self.file

    @property
    def path(self) -> Path:
        """The file in the cache, downloaded or not."""
        own = PurePosixPath(urlsplit(self.address).path)
        unique = own.suffix == '.pth'
        return cache_folder() / (own.name if unique else f'{self.name}{own.suffix or ".pth"}')

    def download(self) -> Path:
        """Download the file unless it is there, as :func:`mmca.checkpoint.download`.

        The environment variable MMCA_WEIGHTS_MIRROR replaces the publishers' addresses with that of
        a folder of the files.
        """
        mirror = os.environ.get(MIRROR, '').rstrip('/')
        mirror = mirror and f'{mirror}/{self.path.name}'
        return download(self.address, self.path.name, self.sha256, mirror)


DEIT = Release('facebookresearch/deit', 'Apache-2.0', 'https://dl.fbaipublicfiles.com/deit/deit_')
SWIN = Release(
    'microsoft/Swin-Transformer',
    'MIT',
    'https://github.com/SwinTransformer/storage/releases/download/',
)
PVT = Release('whai362/PVT', 'Apache-2.0', 'https://github.com/whai362/PVT/releases/download/v2/')
CSWIN = Release(
    'microsoft/CSWin-Transformer',
    'MIT',
    'https://github.com/microsoft/CSWin-Transformer/releases/download/v0.1.0/',
)
TSINGHUA = 'https://cloud.tsinghua.edu.cn/f/'
CA = Release('LeapLabTHU/Circulant-Attention', 'none stated', TSINGHUA)
FLATTEN = Release('LeapLabTHU/FLatten-Transformer', 'none stated', TSINGHUA)
MMSEG = Release(
    'open-mmlab/mmsegmentation',
    'Apache-2.0',
    'https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/swin/swin_',
)
MMCLS = Release(
    'open-mmlab/mmpretrain',
    'Apache-2.0',
    'https://download.openmmlab.com/mmclassification/v0/deit/deit-',
)
TIMM = Release('huggingface/pytorch-image-models', 'MIT', 'https://huggingface.co/timm/')
# Name, backbone, release, size, file. Addresses and hashes as in the READMEs, metafiles and configs
# of these repositories, timm's as in projects that download it. Sizes: PVT's from its README,
# DeiT-B's from a log, Swin-T's from OpenVINO's model zoo, others by parameters.
# 'imagenet' means the first that fits a backbone.
_TABLE = (
    ('deit_tiny', 'DeiT', DEIT, 22, 'tiny_patch16_224-a1311bcf.pth'),
    ('deit_small', 'DeiT', DEIT, 84, 'small_patch16_224-cd65a155.pth'),
    ('deit_base', 'DeiT', DEIT, 330, 'base_patch16_224-b5f2ef4d.pth'),
    ('deit_tiny_distilled', 'DeiT', DEIT, 23, 'tiny_distilled_patch16_224-b40b3cf7.pth'),
    ('deit_small_distilled', 'DeiT', DEIT, 86, 'small_distilled_patch16_224-649709d9.pth'),
    ('deit_base_distilled', 'DeiT', DEIT, 333, 'base_distilled_patch16_224-df68dfff.pth'),
    ('swin_tiny', 'Swin', SWIN, 109, 'v1.0.0/swin_tiny_patch4_window7_224.pth'),
    ('swin_small', 'Swin', SWIN, 189, 'v1.0.0/swin_small_patch4_window7_224.pth'),
    ('swin_base', 'Swin', SWIN, 335, 'v1.0.0/swin_base_patch4_window7_224.pth'),
    ('swin_tiny_22k', 'Swin', SWIN, 169, 'v1.0.8/swin_tiny_patch4_window7_224_22k.pth'),
    ('swin_small_22k', 'Swin', SWIN, 250, 'v1.0.8/swin_small_patch4_window7_224_22k.pth'),
    ('swin_base_22k', 'Swin', SWIN, 416, 'v1.0.0/swin_base_patch4_window7_224_22k.pth'),
    ('pvt_tiny', 'PVT', PVT, 51, 'pvt_tiny.pth'),
    ('pvt_small', 'PVT', PVT, 93, 'pvt_small.pth'),
    ('pvt_medium', 'PVT', PVT, 168, 'pvt_medium.pth'),
    ('pvt_large', 'PVT', PVT, 234, 'pvt_large.pth'),
    ('pvtv2_b0', 'PVTv2', PVT, 14, 'pvt_v2_b0.pth'),
    ('pvtv2_b1', 'PVTv2', PVT, 54, 'pvt_v2_b1.pth'),
    ('pvtv2_b2', 'PVTv2', PVT, 97, 'pvt_v2_b2.pth'),
    ('pvtv2_b3', 'PVTv2', PVT, 173, 'pvt_v2_b3.pth'),
    ('pvtv2_b4', 'PVTv2', PVT, 239, 'pvt_v2_b4.pth'),
    ('pvtv2_b5', 'PVTv2', PVT, 313, 'pvt_v2_b5.pth'),
    ('cswin_tiny', 'CSwin', CSWIN, 85, 'cswin_tiny_224.pth'),
    ('cswin_small', 'CSwin', CSWIN, 134, 'cswin_small_224.pth'),
    ('cswin_base', 'CSwin', CSWIN, 298, 'cswin_base_224.pth'),
    ('ca_deit_tiny', 'CADeiT', CA, 23, '51b342f641b440a9ad53/?dl=1'),
    ('ca_deit_small', 'CADeiT', CA, 91, '02d8767a0981445b9606/?dl=1'),
    ('ca_deit_base', 'CADeiT', CA, 357, '0dee573498554f11a6c7/?dl=1'),
    ('flatten_pvt_tiny', 'FLattenPVT', FLATTEN, 46, '3ab1d773f19d45648690/?dl=1'),
    ('flatten_pvtv2_b0', 'FLattenPVTv2', FLATTEN, 14, '5d1f01532b104da28e7b/?dl=1'),
    ('flatten_swin_tiny', 'FLattenSwin', FLATTEN, 111, 'e1518e76703e4e57a7f2/?dl=1'),
    ('flatten_swin_small', 'FLattenSwin', FLATTEN, 195, '94188e52af354bf4a88b/?dl=1'),
    ('flatten_swin_base', 'FLattenSwin', FLATTEN, 340, '7a9e5186bad04e7fb3a9/?dl=1'),
    ('flatten_cswin_tiny', 'FLattenCSwin', FLATTEN, 81, '48ba765ba8b0451d9d5a/?dl=1'),
    ('mm_deit_tiny', 'DeiT', MMCLS, 22, 'tiny_pt-4xb256_in1k_20220218-13b382a0.pth'),
    ('mm_deit_small', 'DeiT', MMCLS, 84, 'small_pt-4xb256_in1k_20220218-9425b9bb.pth'),
    ('mm_deit_base', 'DeiT', MMCLS, 330, 'base_pt-16xb64_in1k_20220216-db63c16c.pth'),
    ('mm_swin_tiny', 'Swin', MMSEG, 105, 'tiny_patch4_window7_224_20220317-1cdeb081.pth'),
    ('mm_swin_small', 'Swin', MMSEG, 186, 'small_patch4_window7_224_20220317-7ba6d6dd.pth'),
    ('mm_swin_base', 'Swin', MMSEG, 331, 'base_patch4_window7_224_20220317-e9b98025.pth'),
    ('mm_swin_base_22k', 'Swin', MMSEG, 331, 'base_patch4_window7_224_22k_20220317-4f79f7c0.pth'),
    (
        'timm_swin_tiny',
        'Swin',
        TIMM,
        108,
        'swin_tiny_patch4_window7_224.ms_in1k/resolve/main/model.safetensors',
        'fb01861f793143135fa0d6cd97b1631e4b33eaa3ee162bbea9e62de1c76ebac1',
    ),
)


def _known(
    name: str, backbone: str, release: Release, megabytes: int, file: str, sha256: str = ''
) -> KnownWeights:
    if digits := HASH.search(file):
        sha256 = digits[1]
    return KnownWeights(name, backbone, ARCH.search(name)[1], release, megabytes, file, sha256)


KNOWN = {row[0]: _known(*row) for row in _TABLE}


def find_file(source: str | Path) -> Path:
    """Find the file for a path, a name in `KNOWN`, or a URL.

    A path that exists takes precedence. Names and URLs are downloaded unless they are in the cache.

    Raises:
        InputError: the file does not exist or cannot be downloaded.
    """
    path, text = Path(source).expanduser(), str(source)
    if path.is_file():
        return path
    if text.startswith(('http://', 'https://')):
        return download(text)
    if text in KNOWN:
        return KNOWN[text].download()
    near = get_close_matches(text, KNOWN, n=3)
    advice = f'; closest names in `mmca weights`: {", ".join(near)}' if near else ''
    if '://' in text:
        advice = '; mmca reads only http and https addresses; `mmca weights` lists names'
    raise InputError(f'checkpoint not found: {text}{advice}')
