"""mmca's registries, children of mmengine's: configs write type='mmca.NAME'."""

from mmengine import registry
from mmengine.registry import Registry


def _child(parent: Registry, *packages: str) -> Registry:
    """A registry whose components the packages of mmca register on import."""
    locations = [f'mmca.{package}' for package in packages]
    return Registry(parent.name, parent=parent, scope='mmca', locations=locations)


MODELS = _child(registry.MODELS, 'backbones', 'necks', 'distill')
HOOKS = _child(registry.HOOKS, 'engine', 'distill')
DATASETS = _child(registry.DATASETS, 'distill')
METRICS = _child(registry.METRICS, 'distill')
OPTIM_WRAPPER_CONSTRUCTORS = _child(registry.OPTIM_WRAPPER_CONSTRUCTORS, 'engine')
RUNNERS = _child(registry.RUNNERS, 'engine')
