"""Backbones exported and compiled for any batch and image size; eager mode works as before."""

import pytest
import torch

from mmca.backbones import (
    CAPVT,
    PVT,
    CACSwin,
    CADeiT,
    CASwin,
    CSwin,
    FLattenCSwin,
    FLattenPVT,
    FLattenSwin,
    Swin,
)
from tests.helpers import needs_new_torch
from tests.tiny import CSWIN, SHORT_DEIT, SHORT_SWIN
from tests.tiny import PVT as PVT_ARCH

# So that the images have three windows or more each way in every stage.
SWIN_ARCH = {**SHORT_SWIN, 'window_size': 2}
CSWIN_ARCH = {**CSWIN, 'stripe_widths': (1, 2, 2, None)}
SLOW = [(PVT, PVT_ARCH), (FLattenPVT, PVT_ARCH), (Swin, SWIN_ARCH), (CASwin, SWIN_ARCH)]
SLOW += [(FLattenSwin, SWIN_ARCH), (CADeiT, SHORT_DEIT)]
SLOW += [(CSwin, CSWIN_ARCH), (CACSwin, CSWIN_ARCH), (FLattenCSwin, CSWIN_ARCH)]
MODELS = [(CAPVT, PVT_ARCH), *(pytest.param(*model, marks=pytest.mark.slow) for model in SLOW)]
SIZES = [(2, 160, 224), (3, 192, 160), (1, 200, 237)]
pytestmark = pytest.mark.skipif(
    torch.__version__.startswith('2.6.'), reason='torch 2.6 has no FFTs of symbolic size'
)


def check(program, model):
    for batch, height, width in SIZES:
        images = torch.randn(batch, 3, height, width)
        with torch.no_grad():
            pairs = list(zip(program(images), model(images), strict=True))
        for found, expected in pairs:
            assert type(expected) is torch.Tensor
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@needs_new_torch
@pytest.mark.parametrize(('kind', 'arch'), MODELS)
def test_export_with_a_dynamic_batch_and_image_size(kind, arch):
    model, auto = kind(arch).eval(), torch.export.Dim.AUTO
    images = torch.randn(2, 3, 160, 224)
    shapes = ({0: auto, 2: auto, 3: auto},)
    program = torch.export.export(model, (images,), dynamic_shapes=shapes, strict=False)
    check(program.module(), model)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('kind', 'arch'),
    [(CAPVT, PVT_ARCH), (FLattenPVT, PVT_ARCH), (CASwin, SWIN_ARCH), (FLattenCSwin, CSWIN_ARCH)],
)
def test_compile_with_dynamic_shapes(kind, arch):
    torch._dynamo.reset()
    model = kind(arch).eval()
    check(torch.compile(model, fullgraph=True, backend='aot_eager', dynamic=True), model)
