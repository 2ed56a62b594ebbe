"""Reading configs and the files they name, safely; the shipped configs; what is installed."""

from mmca.config.adaptation import adapt

__all__ = ['adapt']
