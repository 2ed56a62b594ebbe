"""Key mappings: parameter names of other libraries to those of the original repositories.

mmca names its parameters as whai362/PVT, microsoft/Swin-Transformer and facebookresearch/deit do.
OpenMMLab and timm have names of their own and store a few tensors in another layout; each mapping
here is a table of substitutions and of such changes. Sources: the modules and converters of
mmdet 3.x (`models/backbones/pvt.py`, `swin.py`), mmpretrain 1.x and mmseg 1.x
(`models/backbones/vision_transformer.py`, `vit.py`), timm (`models/swin_transformer.py`).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from mmca.errors import InputError
from mmca.layers import registered_attentions

# Every file has one patch embedding, so what precedes it is the common prefix.
STEM = re.compile(r'((?:.+\.)?)(?:patch_embed1?\.proj(?:ection)?|layers\.0\.0\.projection)\.weight')
FAMILIES = (
    ('PVTv2', r'block1\.0\.mlp\.dwconv\.dwconv\.weight'),
    ('PVT', r'patch_embed1\.proj\.weight'),
    ('Swin', r'layers\.0\.blocks\.0\.norm1\.weight'),
    ('DeiT', r'blocks\.0\.norm1\.weight'),
    ('ResNet', r'(backbone\.)?layer1\.0\.conv1\.weight'),
)


@dataclass(frozen=True)
class KeyMapping:
    """How one library names a family.

    Attributes:
        name: for messages.
        sign: a regular expression for one name that only this mapping has.
        names: (regular expression, replacement), all applied in turn with `re.sub`.
        tensors: (regular expression for an original name, change), where the layout differs too;
            a change maps a name and its tensor to the original names and tensors.
    """

    name: str
    sign: str
    names: tuple[tuple[str, str | Callable[[re.Match], str]], ...]
    tensors: tuple[tuple[str, Callable[[str, Tensor], dict[str, Tensor]]], ...] = ()

    def applies_to(self, names: Iterable[str]) -> bool:
        """Whether a file with these names needs this mapping."""
        return any(re.fullmatch(self.sign, name) for name in names)

    def apply(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        """The original name or names of a tensor, and the tensors that belong there.

        Raises:
            InputError: a tensor whose layout cannot be the library's.
        """
        for pattern, replacement in self.names:
            name = re.sub(pattern, replacement, name)
        for pattern, change in self.tensors:
            if re.fullmatch(pattern, name):
                try:
                    return change(name, tensor)
                except (RuntimeError, IndexError) as error:
                    raise InputError(
                        f'{name} has the shape {tuple(tensor.shape)}, which {self.name} cannot '
                        'have: the checkpoint is damaged or of another model'
                    ) from error
        return {name: tensor}


def _counted(template: str, *shifts: int) -> Callable[[re.Match], str]:
    """A replacement whose numbers are counted from elsewhere, such as 'block{}.{}.', 1, -1."""
    return lambda found: template.format(
        *(int(number) + shift for number, shift in zip(found.groups(), shifts, strict=True))
    )


def _split_in_proj(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """(3C, ...) of nn.MultiheadAttention to q, (C, ...), and kv, (2C, ...)."""
    dims = tensor.shape[0] // 3
    return {
        name.replace('.qkv.', '.q.'): tensor[:dims],
        name.replace('.qkv.', '.kv.'): tensor[dims:],
    }


def _to_linear(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """The (C_out, C_in, 1, 1) of a convolution to (C_out, C_in)."""
    return {name: tensor.flatten(1)}


def _from_unfold(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """The 4C inputs of a patch merging from nn.Unfold's order to the original's.

    Unfold counts (channel, row, column) of the 2 x 2 cell, the original (column, row, channel).
    """
    cells = tensor.unflatten(-1, (-1, 2, 2)).movedim(-3, -1).transpose(-3, -2)
    return {name: cells.flatten(-3)}


_PATCH_EMBED = (r'^patch_embed\.projection\.', 'patch_embed.proj.')
_FFN = ((r'\.ffn\.layers\.0\.0\.', '.mlp.fc1.'), (r'\.ffn\.layers\.1\.', '.mlp.fc2.'))
_IN_PROJ = (
    (r'\.attn\.attn\.in_proj_', '.attn.qkv.'),
    (r'\.attn\.attn\.out_proj\.', '.attn.proj.'),
)
_PVT_STEM = (r'^layers\.(\d)\.0\.projection\.', _counted('patch_embed{}.proj.', 1))
_PVT_STEM_NORM = (r'^layers\.(\d)\.0\.norm\.', _counted('patch_embed{}.norm.', 1))
_PVT_TENSORS = (
    (r'.*\.attn\.qkv\.(weight|bias)', _split_in_proj),
    (r'.*\.mlp\.fc[12]\.weight', _to_linear),
)

KEY_MAPPINGS = (
    KeyMapping(
        name="mmdet's PVT",
        sign=r'layers\.0\.1\.0\.pos_embed',
        names=(
            _PVT_STEM,
            _PVT_STEM_NORM,
            (r'^layers\.(\d)\.1\.0\.pos_embed$', _counted('pos_embed{}', 1)),
            # The position embedding is the first of a stage's layers.
            (r'^layers\.(\d)\.1\.(\d+)\.', _counted('block{}.{}.', 1, -1)),
            *_IN_PROJ,
            (r'\.ffn\.layers\.0\.', '.mlp.fc1.'),
            (r'\.ffn\.layers\.3\.', '.mlp.fc2.'),
        ),
        tensors=_PVT_TENSORS,
    ),
    KeyMapping(
        name="mmdet's PVTv2",
        sign=r'layers\.0\.1\.0\.ffn\.layers\.4\.weight',
        names=(
            _PVT_STEM,
            _PVT_STEM_NORM,
            (r'^layers\.(\d)\.1\.(\d+)\.', _counted('block{}.{}.', 1, 0)),
            (r'^layers\.(\d)\.2\.', _counted('norm{}.', 1)),
            *_IN_PROJ,
            (r'\.ffn\.layers\.0\.', '.mlp.fc1.'),
            (r'\.ffn\.layers\.1\.', '.mlp.dwconv.dwconv.'),
            (r'\.ffn\.layers\.4\.', '.mlp.fc2.'),
        ),
        tensors=_PVT_TENSORS,
    ),
    KeyMapping(
        name="OpenMMLab's Swin",
        sign=r'stages\.0\.blocks\.0\.attn\.w_msa\.qkv\.weight',
        names=(
            _PATCH_EMBED,
            (r'^stages\.', 'layers.'),
            (r'\.attn\.w_msa\.', '.attn.'),
            *_FFN,
        ),
        tensors=(
            (r'layers\.\d\.downsample\.(norm\.(weight|bias)|reduction\.weight)', _from_unfold),
        ),
    ),
    KeyMapping(
        name="OpenMMLab's ViT",
        sign=r'layers\.0\.ln1\.weight',
        names=(
            _PATCH_EMBED,
            (r'^layers\.', 'blocks.'),
            (r'^(ln1|norm1)\.', 'norm.'),
            (r'\.ln([12])\.', r'.norm\1.'),
            *_IN_PROJ,
            *_FFN,
        ),
    ),
    KeyMapping(
        name="timm's Swin",
        # The original has no downsampling in its last stage; timm's is at the head of the next.
        sign=r'layers\.3\.downsample\.reduction\.weight',
        names=((r'^layers\.(\d)\.downsample\.', _counted('layers.{}.downsample.', -1)),),
    ),
)


def find_prefix(names: Iterable[str]) -> str:
    """The common prefix of the names of a file's backbone, found by its patch embedding.

    Args:
        names: of a backbone, or of anything that has one in it.

    Returns:
        Such as 'backbone.' or 'model.encoder.', '' where there is none; the first if the file
        has several backbones.
    """
    found = (STEM.fullmatch(name) for name in names)
    return next((match[1] for match in found if match), '')


def to_original_names(state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str | None]:
    """Bring the names and layouts of another library to the original ones.

    Args:
        state_dict: name -> tensor of a backbone, without prefixes, see :func:`find_prefix`.

    Returns:
        The state dict in original names, and the name of the key mapping that applied; None if
        none did, and then nothing is changed.

    Raises:
        InputError: a tensor whose layout cannot be the library's.
    """
    mapping = next((item for item in KEY_MAPPINGS if item.applies_to(state_dict)), None)
    if mapping is None:
        return dict(state_dict), None
    original: dict[str, Tensor] = {}
    for name, tensor in state_dict.items():
        original |= mapping.apply(name, tensor)
    return original, mapping.name


def guess_family(names: Iterable[str]) -> str | None:
    """The family that a file is of, such as 'CA-PVT', by its original names; None if unknown."""
    names = list(names)
    families = (word for word, sign in FAMILIES if any(re.fullmatch(sign, n) for n in names))
    family = next(families, None)
    if family is None:
        return None
    for attention in registered_attentions().values():
        sign = f'.attn.{attention.signature}'
        if attention.signature and any(name.endswith(sign) for name in names):
            return attention.method + family
    return family
