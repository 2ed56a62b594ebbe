"""Predictors with random weights."""

import pytest

from mmca.inference import Predictor


@pytest.fixture(scope='module')
def detector(det):
    return Predictor(det.config, det.checkpoint, 'cpu')


@pytest.fixture(scope='module')
def segmentor(seg):
    return Predictor(seg.config, seg.checkpoint, 'cpu')
