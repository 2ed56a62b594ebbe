"""Backbones exported and compiled for any batch and image size; eager mode works as before.

One of each family: tests/layers/test_tracing.py has a block with each attention.
"""

import pytest
import torch

from mmca import backbones
from tests import tiny
from tests.helpers import needs_new_torch, slow

ARCHS = {  # the images have three windows or more each way in every stage
    'PVT': tiny.PVT,
    'CSwin': {**tiny.CSWIN, 'stripe_widths': (1, 2, 2, None)},
    'Swin': {**tiny.SHORT_SWIN, 'window_size': 2},
    'DeiT': tiny.SHORT_DEIT,
}
KINDS = ['CAPVT', *slow('CASwin', 'CADeiT', 'CACSwin')]
SIZES = [(2, 160, 224), (3, 192, 160), (1, 200, 237)]
pytestmark = pytest.mark.skipif(
    torch.__version__.startswith('2.6.'), reason='torch 2.6 has no FFTs of symbolic size'
)


def build(kind):
    arch = next(arch for family, arch in ARCHS.items() if kind.endswith(family))
    return getattr(backbones, kind)(arch).eval()


def check(program, model):
    for batch, height, width in SIZES:
        images = torch.randn(batch, 3, height, width)
        with torch.no_grad():
            pairs = list(zip(program(images), model(images), strict=True))
        for found, expected in pairs:
            assert type(expected) is torch.Tensor
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@needs_new_torch
@pytest.mark.parametrize('kind', KINDS)
def test_export_with_a_dynamic_batch_and_image_size(kind):
    model, auto = build(kind), torch.export.Dim.AUTO
    images = torch.randn(2, 3, 160, 224)
    shapes = ({0: auto, 2: auto, 3: auto},)
    program = torch.export.export(model, (images,), dynamic_shapes=shapes, strict=False)
    check(program.module(), model)


@pytest.mark.slow
def test_compile_with_dynamic_shapes():
    torch._dynamo.reset()
    model = build('CAPVT')
    check(torch.compile(model, fullgraph=True, backend='aot_eager', dynamic=True), model)
