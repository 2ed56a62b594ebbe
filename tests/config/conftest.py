"""The commands are the doors through which configs are read."""

from tests.commands import fail, forget, tiny_run

__all__ = ['fail', 'forget', 'tiny_run']
