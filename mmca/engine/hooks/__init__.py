"""Hooks for mmengine's runner. Needs torch and mmengine."""
