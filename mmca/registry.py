"""mmca's registries, children of mmengine's: configs write type='mmca.NAME'."""

from mmengine.registry import DATASETS as ROOT_DATASETS
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.registry import METRICS as ROOT_METRICS
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as ROOT_CONSTRUCTORS
from mmengine.registry import RUNNERS as ROOT_RUNNERS
from mmengine.registry import Registry

MODELS = Registry(
    'model',
    parent=ROOT_MODELS,
    scope='mmca',
    locations=['mmca.backbones', 'mmca.necks', 'mmca.distill'],
)
HOOKS = Registry('hook', parent=ROOT_HOOKS, scope='mmca', locations=['mmca.engine', 'mmca.distill'])
DATASETS = Registry('dataset', parent=ROOT_DATASETS, scope='mmca', locations=['mmca.distill'])
METRICS = Registry('metric', parent=ROOT_METRICS, scope='mmca', locations=['mmca.distill'])
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optim wrapper constructor',
    parent=ROOT_CONSTRUCTORS,
    scope='mmca',
    locations=['mmca.engine'],
)
RUNNERS = Registry('runner', parent=ROOT_RUNNERS, scope='mmca', locations=['mmca.engine'])
