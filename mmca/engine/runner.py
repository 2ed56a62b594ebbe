"""mmca.Runner: mmengine's Runner with safe loading, mmca's hooks and checks, and one-line errors.

The tools of mmdet, mmseg and mmpretrain build the runner in `runner_type` of the config. Shipped
configs use this one.
"""

from __future__ import annotations

import copy
import io
import logging
import os
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from datetime import timedelta
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.device import get_device
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, METRICS, Registry
from mmengine.runner import Runner as MMEngineRunner
from torch import nn
from torch.utils.data import DataLoader

from mmca.config.reader import LIBRARIES
from mmca.engine.check_hook import Checked, StopHook
from mmca.engine.checkpoint_hook import LAST, find_last
from mmca.engine.dataset import build_dataset, explain_missing_images
from mmca.engine.failures import reported
from mmca.engine.hooks.drawing import keep_subfolders
from mmca.registry import RUNNERS

# Name in default_hooks -> the hook that every config gets; None in a config leaves it out.
HOOKS = {
    'checks': 'mmca.CheckHook',
    'finite_loss': 'mmca.FiniteLossHook',
    'preemption': 'mmca.PreemptionHook',
    'resume': 'mmca.ResumeHook',
    'throughput': 'mmca.ThroughputHook',
}
LONG = 10  # lines; a report on loaded weights is shorter, a config is longer
# Functions that log the libraries' notes: mmengine's `print_log`, and its runner's on SyncBN.
NOTES = ('print_log', 'wrap_model')
FIRST_ITERATIONS = ('after_train_iter', 'after_val_iter', 'after_test_iter')


def _naming(method: str, part: str) -> Callable:
    """Override a method so that its exceptions name the part of the config that it builds."""

    def build(self: Runner, *args: Any, **kwargs: Any) -> Any:
        try:
            return getattr(super(Runner, self), method)(*args, **kwargs)
        except Exception as error:
            error.mmca_part = getattr(error, 'mmca_part', part)
            raise

    return build


@RUNNERS.register_module()
class Runner(MMEngineRunner):
    """A safe version of mmengine's Runner with the same arguments.

    It loads checkpoints without executing code, writes them atomically, resumes from the last
    intact one, adds the hooks in `HOOKS`, trains on CPUs in several processes, and reports errors
    in one line, see `mmca.engine.failures`.

    Example (in a config):
        runner_type = 'mmca.Runner'

    Example (in Python):
        runner = Runner.from_cfg(Config.fromfile('config.py'))
        runner.train()
    """

    started = False  # whether the first iteration has ended
    trains = False  # whether it was asked to train, not to test

    @classmethod
    def from_cfg(cls, cfg: Config) -> Runner:
        """Build a runner.

        Raises:
            SystemExit: a part cannot be built; the reason is on stderr.
        """
        with reported(lambda: False):
            return super().from_cfg(_prepare(cfg))

    def train(self) -> nn.Module:
        """Train; returns the model.

        Raises:
            SystemExit: after any error, see `mmca.engine.failures`.
        """
        self.trains = True
        with reported(lambda: self.started, self._how_to_resume):
            return super().train()

    def val(self) -> dict:
        """Validate; returns the metrics. Raises as :meth:`train`."""
        with reported(lambda: self.started):
            return super().val()

    def test(self) -> dict:
        """Test; returns the metrics. Raises as :meth:`train`."""
        with reported(lambda: self.started):
            return super().test()

    def check(self) -> None:
        """Set up and check a training; return before its first iteration.

        Raises:
            SystemExit: training would fail; the reason is on stderr.
        """
        self.trains = True
        self.register_hook(StopHook(), priority='HIGH')  # after the checks
        with suppress(Checked), reported(lambda: False):
            super().train()

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger; until the first iteration, long records go only to the log file."""
        logger = super().build_logger(*args, **kwargs)

        def shown(record: logging.LogRecord) -> bool:
            short = record.funcName not in NOTES and record.getMessage().count('\n') < LONG
            return short or record.levelno >= logging.ERROR or self.started

        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                # Python's warnings, where captured; mmengine's handler drops repeated formats.
                warnings_to = logging.FileHandler(handler.baseFilename, delay=True)
                logging.getLogger('py.warnings').addHandler(warnings_to)
                logger.info(f'log file, with config, environment and hooks: {handler.baseFilename}')
            else:
                handler.addFilter(shown)
        return logger

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call all hooks, and note the end of the first iteration."""
        self.started = self.started or fn_name in FIRST_ITERATIONS
        super().call_hook(fn_name, **kwargs)

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Save a checkpoint; a local file gets its name once it is complete and on disk."""
        if '://' in str(out_dir):
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
            return
        part = f'{filename}.part'
        super().save_checkpoint(out_dir, part, *args, **kwargs)
        if self.rank == 0:
            with open(Path(out_dir, part), 'rb+') as file:
                os.fsync(file.fileno())
            os.replace(Path(out_dir, part), Path(out_dir, filename))

    def setup_env(self, env_cfg: dict) -> None:
        """Set up the environment; processes without GPUs get a gloo group."""
        if self.launcher == 'pytorch' and get_device() == 'cpu':
            seconds = env_cfg.get('dist_cfg', {}).get('timeout')
            timeout = timedelta(seconds=seconds) if seconds else None
            torch.distributed.init_process_group('gloo', timeout=timeout)
        super().setup_env(env_cfg)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap the model for several processes, on CPUs without a device number."""
        if self.distributed and get_device() == 'cpu':
            self.cfg.sync_bn = None  # SyncBN runs on GPUs only
            model_wrapper_cfg = {
                'broadcast_buffers': False,
                'find_unused_parameters': self.cfg.get('find_unused_parameters', False),
                **(model_wrapper_cfg or {}),
                'device_ids': None,
            }
        return super().wrap_model(model_wrapper_cfg, model)

    @staticmethod
    def build_dataloader(dataloader: Any, *args: Any, **kwargs: Any) -> DataLoader:
        """Build a data loader; classes are matched by name, see `mmca.engine.coco`."""
        return MMEngineRunner.build_dataloader(_by_names(dataloader, DATASETS), *args, **kwargs)

    def build_evaluator(self, evaluator: Any) -> Evaluator:
        """Build an evaluator; classes are matched by name, see `mmca.engine.coco`."""
        return super().build_evaluator(_by_names(evaluator, METRICS))

    build_model = _naming('build_model', 'model')
    build_train_loop = _naming('build_train_loop', 'train_dataloader')
    build_val_loop = _naming('build_val_loop', 'val_dataloader, val_evaluator')
    build_test_loop = _naming('build_test_loop', 'test_dataloader, test_evaluator')
    build_optim_wrapper = _naming('build_optim_wrapper', 'optim_wrapper')
    build_param_scheduler = _naming('build_param_scheduler', 'param_scheduler')
    register_hooks = _naming('register_hooks', 'default_hooks, custom_hooks')

    def _how_to_resume(self) -> str:
        if Path(self.work_dir, LAST).is_file():
            return f'resume with the same command and --resume (checkpoints in {self.work_dir})'
        return f'no checkpoint in {self.work_dir} yet; run the same command again'


def _prepare(cfg: Config) -> Config:
    """The config with our hooks, and the checkpoint to resume from."""
    cfg = copy.deepcopy(cfg) if isinstance(cfg, Config) else Config(copy.deepcopy(dict(cfg)))
    library = cfg.get('default_scope')
    import_library(library)
    hooks = dict(cfg.get('default_hooks') or {})
    own = [hook.get('type') for hook in cfg.get('custom_hooks') or [] if isinstance(hook, dict)]
    for name, kind in HOOKS.items():
        if name not in hooks and kind not in own:
            hooks[name] = dict(type=kind)
        elif hooks.get(name, ...) is None:  # mmengine drops only its own hooks
            del hooks[name]
    checkpoint = hooks.get('checkpoint', {})
    if checkpoint is not None and checkpoint.get('type', 'CheckpointHook') == 'CheckpointHook':
        hooks['checkpoint'] = dict(checkpoint, type='mmca.CheckpointHook')
    if hooks.get('visualization'):
        hooks['visualization'] = keep_subfolders(library, hooks['visualization'])
    cfg.default_hooks = hooks
    if cfg.get('resume') and not cfg.get('load_from'):
        cfg.load_from = find_last(cfg.work_dir)
        cfg.resume = cfg.load_from is not None
    return cfg


def _by_names(node: Any, registry: Registry) -> Any:
    """The config of data sets or evaluators with our classes for mmdet's and their subclasses."""
    if isinstance(node, (list, tuple)):
        return [_by_names(child, registry) for child in node]
    if not isinstance(node, dict):
        return node
    inside = {key: node[key] for key in ('dataset', 'datasets', 'metrics') if key in node}
    node = {**node, **{key: _by_names(child, registry) for key, child in inside.items()}}
    kind = node.get('type')
    if isinstance(kind, str):
        with registry.switch_scope_and_registry(None) as scoped:
            kind = scoped.get(kind)
    if isinstance(kind, type) and any(
        base.__module__.startswith('mmdet.') for base in kind.__mro__
    ):
        node['type'] = import_module('mmca.engine.coco').by_names(kind)
    elif isinstance(kind, type) and issubclass(kind, BaseDataset):
        node['type'] = partial(build_dataset, kind, explain_missing_images, {})
    return node


def import_library(library: str | None) -> None:
    """Import a library's data sets and metrics without its notes on optional packages."""
    if library not in LIBRARIES:
        return
    if library == 'mmpretrain':
        import_module('mmca.engine.no_torchvision')
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for part in ('datasets', 'evaluation', 'models'):
            import_module(f'{library}.{part}')
