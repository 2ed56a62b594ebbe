"""Tiny runs for tests of the engine."""

from tests.commands import fail, forget, tiny_run

__all__ = ['fail', 'forget', 'tiny_run']
