"""The commands are the doors through which configs are read."""

from tests.cli.conftest import fail, forget, tiny_run

__all__ = ['fail', 'forget', 'tiny_run']
