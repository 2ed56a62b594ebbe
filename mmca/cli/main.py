"""The `mmca` command: finds the sub-command and turns user-fixable errors into one line."""

from __future__ import annotations

import argparse
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from pickle import UnpicklingError

from mmca.config.packages import how_to_install, require
from mmca.engine.safe_loading import load_weights_only
from mmca.errors import InputError

DESCRIPTION = """\
Circulant Attention for detection and segmentation: trains, tests and examines models with
CA-PVT, CA-Swin and CA-DeiT backbones, by the tools of mmdetection, mmsegmentation and mmpretrain.
CONFIG is a file, or the name of a shipped config such as coco/maskrcnn_ca_pvt_s."""
# A sub-command is the module of its name in mmca.cli: its docstring is the help's first paragraph;
# `REQUIRES` names the packages that it needs, `add_arguments(parser)` adds its arguments, and
# `run(args)` does the work and returns the exit code. `EXTRA_FLAGS = True` lets flags through that
# it does not know. Modules import torch and mmengine inside functions, so that help is quick.
COMMANDS = {
    'train': 'train a detector, a segmentor or a classifier',
    'test': 'test one on its test data',
    'predict': 'predict on images and videos, and draw the results',
    'app': 'show predictions and attention in a browser',
    'export': 'write one as an ONNX file or a torch.export program, and check it',
    'check': 'run the checks that precede training, without training',
    'config': 'list, find, print or copy the shipped configs',
    'flops': "count a model's parameters and multiply-adds",
    'inspect': 'show what is in a checkpoint and which backbone it fits',
    'analyze': 'tell which attentions of a softmax network circulant ones can replace',
    'visualize': 'draw the attention of one patch, softmax and circulant side by side',
    'distill': 'distill softmax attention into circulant attention, without labels',
    'plot': 'plot the learning curves of trainings',
    'backbone-table': 'count all backbones in all sizes',
    'prepare-data': 'bring a public data set into the layout of the shipped configs',
    'make-mini': 'write the synthetic data set of the mini configs',
    'demo': 'train and test on the synthetic data set',
    'doctor': 'report versions, devices and what is missing',
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

`mmca COMMAND --help` shows the arguments of a command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `mmca` command.

    Args:
        argv: the command line without the program's name; default `sys.argv[1:]`.

    Returns:
        The exit code: 0, 2 after bad input, 130 after an interrupt, or what the command says.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0] in COMMANDS:
        return run_command(argv[0], argv[1:])
    _top_parser().parse_args(argv or ['--help'])
    return 0


def run_command(name: str, argv: Sequence[str], prog: str | None = None) -> int:
    """Run one sub-command.

    Args:
        name: a key of `COMMANDS`.
        argv: its command line.
        prog: how it was called, for its help; default 'mmca NAME'.

    Returns:
        The exit code, as :func:`main`.
    """
    load_weights_only()
    # mmdet says so of a metric that no config here has.
    warnings.filterwarnings('ignore', 'faster_coco_eval is not installed')
    # A notebook names its own way to draw, which the environment of this command may not have.
    if os.environ.get('MPLBACKEND', '').startswith('module://'):
        os.environ['MPLBACKEND'] = 'Agg'
    try:
        command = import_module(f'mmca.cli.{name.replace("-", "_")}')
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition('.')[0] == 'mmca':
            raise
        print(
            f'error: {error.name} is not installed; {how_to_install(error.name)}', file=sys.stderr
        )
        return 2
    parser = argparse.ArgumentParser(
        prog=prog or f'mmca {name}',
        description=command.__doc__.strip(),
        epilog=getattr(command, 'EPILOG', None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    if getattr(command, 'EXTRA_FLAGS', False):
        args, _ = parser.parse_known_args(argv)
        args.argv, args.parser = list(argv), parser
    else:
        args = parser.parse_args(argv)

    def job() -> int:
        require(*command.REQUIRES)
        return command.run(args)

    return guarded(job)


def guarded(job: Callable[[], int]) -> int:
    """Run a job; what the user can fix becomes one line on stderr, a bug keeps its traceback.

    Args:
        job: does the work and returns an exit code.

    Returns:
        The job's exit code, or 2 after an `InputError`, also one that is the cause of another
        exception, 130 after an interrupt, or 141 when nobody reads the output any more.
    """
    try:
        return job()
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        cause = find_linked(error, InputError, '__cause__')
        if cause is None and find_linked(error, UnpicklingError, '__cause__', '__context__'):
            cause = (
                'a checkpoint holds more than weights and is not loaded, since that would run code '
                'in it; `mmca inspect FILE` shows what is in it'
            )
        if cause is None:
            raise
        print(f'error: {without_traceback(cause)}', file=sys.stderr)
        return 2


def without_traceback(error: object) -> str:
    """The message of an exception, also of one that a data worker has handed on.

    torch raises it again with 'Caught InputError in DataLoader worker process 0.' and the worker's
    traceback as its message; the last line of that has the message.
    """
    return re.sub(r'(?s)^Caught InputError in DataLoader .*\bInputError: ', '', str(error)).rstrip()


def find_linked(
    error: BaseException | None, kind: type[BaseException], *links: str
) -> BaseException | None:
    """Find an exception of a kind among an exception and those that it is linked to.

    Args:
        error: the exception that was caught.
        kind: the class to find.
        links: attributes to follow: '__cause__', '__context__'.

    Returns:
        The nearest one, or None.
    """
    while error is not None and not isinstance(error, kind):
        error = next((getattr(error, link) for link in links if getattr(error, link)), None)
    return error


def _top_parser() -> argparse.ArgumentParser:
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
    parser.add_argument('command', choices=COMMANDS, metavar='COMMAND', help=argparse.SUPPRESS)
    return parser
