"""The forms of circulant attention."""

from collections.abc import Iterator

import pytest
import torch
import torch._dynamo  # whose rules must know the function that is replaced below

from mmca.ops import use_backend


@pytest.fixture(params=['fused', 'eager', 'onnx'])
def every_form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run the test in each form."""
    onnx = request.param == 'onnx'
    monkeypatch.setattr(torch.onnx, 'is_in_onnx_export', lambda: onnx)
    with use_backend('fused' if onnx else request.param):
        yield
