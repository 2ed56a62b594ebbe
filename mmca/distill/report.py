"""The figures of a transfer, kept with its checkpoints."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmca.registry import HOOKS

ERRORS = 'transfer_errors'  # in the message hub: iteration -> figures


@HOOKS.register_module()
class TransferReportHook(Hook):
    """Measure before the first iteration, and note every measurement in the message hub.

    Checkpoints hold the message hub, so a resumed run knows all figures.
    """

    priority = 'LOWEST'  # the others must be ready for a validation

    def before_train(self, runner: Runner) -> None:
        """Measure the start."""
        if runner.iter == 0:
            runner.val_loop.run()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Note the figures."""
        known = runner.message_hub.runtime_info.get(ERRORS, {})
        runner.message_hub.update_info(ERRORS, {**known, runner.iter: dict(metrics or {})})
