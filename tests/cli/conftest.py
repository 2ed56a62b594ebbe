"""Every command runs in the process of the tests."""

from tests.commands import fail, forget, tiny_run

__all__ = ['fail', 'forget', 'tiny_run']
