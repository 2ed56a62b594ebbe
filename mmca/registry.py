"""mmca's registries, children of mmengine's root: configs write type='mmca.NAME'."""

from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import Registry

MODELS = Registry(
    'model', parent=ROOT_MODELS, scope='mmca', locations=['mmca.backbones', 'mmca.necks']
)
HOOKS = Registry('hook', parent=ROOT_HOOKS, scope='mmca', locations=['mmca.hooks'])
