"""The synthetic data set of configs/mini, made from a seed."""

from mmca.cli.mini.drawing import STUFF, THINGS
from mmca.cli.mini.layouts import make_mini

__all__ = ['STUFF', 'THINGS', 'make_mini']
