"""Configs: read, adapt, write and find them; packages that they need."""

from mmca.config.adaptation import adapt

__all__ = ['adapt']
