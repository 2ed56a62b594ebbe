"""Exempt parameters from weight decay as attentions and backbones declare."""

from __future__ import annotations

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmca.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class OptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, but modules can exempt parameters from weight decay.

    A module exempts the parameters in its `no_weight_decay`, as `mmca.layers.Attention` and the
    backbones do: position tables and embeddings. Everything else follows `paramwise_cfg`.

    Example (in a config):
        optim_wrapper = dict(
            type='OptimWrapper',
            constructor='mmca.OptimWrapperConstructor',
            optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
            paramwise_cfg=dict(norm_decay_mult=0.0),
        )
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        # With an empty paramwise_cfg mmengine would put all parameters into one group.
        super().__init__(optim_wrapper_cfg, paramwise_cfg or {'bias_lr_mult': 1.0})

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs: object
    ) -> None:
        """Add one group for each parameter of a module to `params`."""
        start = len(params)
        super().add_params(params, module, prefix, **kwargs)
        exempt = {id(getattr(module, n, None)) for n in getattr(module, 'no_weight_decay', ())}
        for group in params[start:]:
            if any(id(parameter) in exempt for parameter in group['params']):
                group['weight_decay'] = 0.0
