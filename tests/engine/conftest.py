"""Every run of the engine starts without mmengine's global state."""

from tests.commands import forget

__all__ = ['forget']
