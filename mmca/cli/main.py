"""The `mmca` command: finds the sub-command and turns errors into one line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module

from mmca.config.packages import require
from mmca.config.reader import quiet_reading
from mmca.errors import InputError, print_line

DESCRIPTION = """\
Circulant Attention for detection and segmentation: train, evaluate and analyze models with CA-PVT,
CA-Swin and CA-DeiT backbones, using the tools of mmdetection, mmsegmentation and mmpretrain.
CONFIG is a config file or the name of a shipped config, such as coco/maskrcnn_ca_pvt_s."""
# A sub-command is the module of its name in mmca.cli: its docstring begins the help, `REQUIRES`
# names the packages it needs, `add_arguments(parser)` adds its arguments, `run(args)` does
# the work and returns the exit status. Modules import torch inside functions: help is quick.
COMMANDS = {
    'train': 'train a detector, segmentor or classifier',
    'test': 'evaluate a trained model on its test set',
    'predict': 'predict on images and videos and draw the results',
    'app': 'show predictions and attention in the browser',
    'export': 'export a model to ONNX or torch.export and verify it',
    'check': 'check data, model and weights without training',
    'config': 'list, print or copy configs, or write one for your data',
    'flops': 'count the parameters and multiply-adds of a model',
    'weights': 'list or download published weights',
    'inspect': 'show the contents of a checkpoint and the backbone it fits',
    'analyze': 'measure how circulant the attention of a softmax network is',
    'visualize': 'draw the attention of a patch in an image',
    'distill': 'distill softmax attention into circulant attention without labels',
    'plot': 'plot learning curves',
    'doctor': 'report versions, devices and missing packages',
}
EXAMPLES = """\
examples:
  mmca doctor
  mmca config --list
  mmca check coco/maskrcnn_ca_pvt_s
  mmca train coco/maskrcnn_ca_pvt_s --amp --auto-scale-lr
  torchrun --nproc_per_node 8 -m mmca train coco/maskrcnn_ca_pvt_s --launcher pytorch
  mmca test coco/maskrcnn_ca_pvt_s work_dirs/maskrcnn_ca_pvt_s/epoch_12.pth
  mmca predict coco/maskrcnn_ca_pvt_s work_dirs/maskrcnn_ca_pvt_s/epoch_12.pth photos/ --out out

`mmca COMMAND --help` lists the arguments of a command. With --traceback, any command shows the
traceback of an error."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `mmca` command with `argv`, by default `sys.argv[1:]`; returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and not argv[0].startswith('-'):
        return run_command(argv[0], argv[1:])
    from mmca import __version__

    width = max(map(len, COMMANDS)) + 2
    commands = '\n'.join(f'  {name:{width}}{text}' for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog='mmca',
        usage='mmca COMMAND [arguments]',
        description=f'{DESCRIPTION}\n\ncommands:\n{commands}',
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=f'mmca {__version__}')
    parser.parse_args(argv or ['--help'])
    return 0


def run_command(name: str, argv: Sequence[str], prog: str | None = None) -> int:
    """Run a sub-command; returns the exit status. `prog` is the name in its help."""
    words = [word for word in argv if word != '--traceback']
    os.environ['MMCA_TRACEBACK'] = '1' if len(words) < len(argv) else '0'
    # A notebook names its own way to draw, which the environment of this command may not have.
    if os.environ.get('MPLBACKEND', '').startswith('module://'):
        os.environ['MPLBACKEND'] = 'Agg'

    def job() -> int:
        if name not in COMMANDS:
            near = get_close_matches(name, COMMANDS, 1)
            hint = f'did you mean {near[0]}?' if near else 'run mmca --help for a list'
            raise InputError(f'unknown command {name!r}; {hint}')
        command = import_module(f'mmca.cli.{name}')
        parser = argparse.ArgumentParser(
            prog=prog or f'mmca {name}',
            description=command.__doc__.strip(),
            epilog=getattr(command, 'EPILOG', None),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(parser)
        args = parser.parse_args(words)
        require(*command.REQUIRES)
        if 'mmengine' in command.REQUIRES:
            quiet_reading()
        return command.run(args)

    return guarded(job)


def guarded(job: Callable[[], int]) -> int:
    """Run a job and turn errors into one line on stderr.

    Returns:
        The job's exit status, 2 after an error, 130 after an interrupt, 141 after a broken pipe.
    """
    try:
        return job()
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if os.environ.get('MMCA_TRACEBACK') == '1':
            raise
        if isinstance(error, InputError):
            print_line('error', str(error))
        else:
            from mmca.engine.failures import describe

            print_line('error', f'{describe(error)} (--traceback shows where)')
        return 2
