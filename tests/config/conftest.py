"""The commands are the doors through which configs are read."""

from tests.commands import fail, forget

__all__ = ['fail', 'forget']
