"""mmca's registry, a child of mmengine's root: configs write type='mmca.NAME'."""

from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import Registry

MODELS = Registry('model', parent=ROOT_MODELS, scope='mmca', locations=['mmca.backbones'])
