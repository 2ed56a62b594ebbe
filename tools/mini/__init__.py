"""The synthetic data set of configs/mini, made from a seed."""

from tools.mini.drawing import STUFF, THINGS
from tools.mini.layouts import make_mini

__all__ = ['STUFF', 'THINGS', 'make_mini']
