"""The checks as a hook, on the data sets, model and weights that the runner has built."""

from __future__ import annotations

from typing import Any, ClassVar

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from torch import nn

from mmca.checks import (
    check_batch_labels,
    check_classes,
    check_data,
    check_normalization,
    check_trained_classes,
    check_weights,
    splits_of,
)
from mmca.engine.rehearsal import rehearse_validation
from mmca.errors import InputError
from mmca.registry import HOOKS


class Checked(BaseException):
    """Raised where the first iteration would begin, see `mmca.Runner.check`."""


class StopHook(Hook):
    """Stops a training before its first iteration."""

    def before_train(self, runner: Runner) -> None:
        """Stop."""
        raise Checked


@HOOKS.register_module()
class CheckHook(Hook):
    """Run the checks of `mmca.checks` before the first iteration. `mmca.Runner` adds this hook.

    Methods raise an `InputError` for mistakes that would otherwise go unnoticed.

    Example (in a config):
        default_hooks = dict(checks=None)  # disables the checks
    """

    priority = 'VERY_HIGH'
    started: ClassVar[bool] = False  # whether a test of this process has passed its first image

    def __init__(self) -> None:
        self.trained: list[str] = []  # classes of the checkpoint whose heads are used as they are

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check the weights."""
        # Some libraries' test tools build mmengine's own runner.
        use = 'start' if getattr(runner, 'trains', False) else 'test'
        use = 'resume' if runner.cfg.get('resume') else use
        check_weights(checkpoint, _bare(runner.model), str(runner.cfg.load_from), use)
        if use != 'start':
            trained = (checkpoint.get('meta') or {}).get('dataset_meta') or {}
            self.trained = list(trained.get('classes') or ())

    def before_train(self, runner: Runner) -> None:
        """Check training and validation data, and rehearse a validation."""
        self._check(runner, train=runner.train_loop, val=runner.val_loop)
        loop = runner.train_loop
        if isinstance(loop, EpochBasedTrainLoop) and not len(loop.dataloader):
            raise InputError(
                f'an epoch has no iteration: the {len(loop.dataloader.dataset)} images are less '
                'than a batch, and drop_last leaves them out; lower train_dataloader.batch_size'
            )
        rehearse_validation(runner)

    def before_test(self, runner: Runner) -> None:
        """Check the test data."""
        self._check(runner, test=runner.test_loop)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Note that the first image has been tested."""
        CheckHook.started = True

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Check the labels of a batch."""
        check_batch_labels(data_batch, _bare(runner.model))

    def _check(self, runner: Runner, **loops: BaseLoop | None) -> None:
        if not is_main_process():
            return
        splits = splits_of(loops)
        check_data(splits)
        check_classes(_bare(runner.model), splits)
        check_normalization(_bare(runner.model), splits)
        check_trained_classes(self.trained, str(runner.cfg.get('load_from')), splits)


def _bare(model: nn.Module) -> nn.Module:
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):  # --tta
        model = model.module
    return model
