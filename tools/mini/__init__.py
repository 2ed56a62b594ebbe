"""The synthetic data set of configs/mini, generated from a seed."""

from .drawing import STUFF, THINGS
from .layouts import make_mini

__all__ = ['STUFF', 'THINGS', 'make_mini']
