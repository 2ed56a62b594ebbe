"""Find the library that a config belongs to, check the input, run that library's own tool.

The tools of mmdet, mmseg and mmpretrain come with their packages, in `<package>/.mim/tools`. They
are run as they are, with the same arguments, so that every flag of theirs works.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from config_file import install_hint, library_of, load_config, parse_options

if TYPE_CHECKING:
    from mmengine.config import Config

REQUIRED = ('torch', 'mmengine', 'mmcv', 'mmcv._ext', 'mmca')
EXAMPLES = {
    'train': 'python tools/train.py configs/coco/maskrcnn_ca_pvt_s.py --amp --auto-scale-lr',
    'test': 'python tools/test.py configs/coco/maskrcnn_ca_pvt_s.py'
    ' work_dirs/maskrcnn_ca_pvt_s/epoch_12.pth --show-dir pictures',
}


def main(tool: str, argv: Sequence[str]) -> int:
    """Run `train` or `test` of the library that the config belongs to.

    Args:
        tool: 'train' or 'test'.
        argv: the command line without the program's name.

    Returns:
        The exit code: 0, 2 after bad input, 130 after an interrupt.
    """
    args, _ = _parser(tool).parse_known_args(argv)
    return guarded(lambda: _start(tool, args, list(argv)))


def guarded(job: Callable[[], int]) -> int:
    """Run a job; what the user can mend becomes one line on stderr, a bug keeps its traceback.

    Args:
        job: does the work and returns an exit code.

    Returns:
        The job's exit code, or 2 after an `InputError`, also one that is the cause of another
        exception, or 130 after an interrupt.
    """
    absent = next((name for name in REQUIRED if find_spec(name) is None), None)
    if absent is not None:
        return _fail(install_hint(absent))
    from mmca.errors import InputError  # only now is it known to be there

    try:
        return job()
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130
    except Exception as error:
        cause = _find(error, InputError, '__cause__')
        if cause is None:
            raise
        return _fail(str(cause))


def translate(library: str, tool: str, argv: Sequence[str], cfg: Config) -> list[str]:
    """Write the common flags in the words of one library's tool.

    mmseg's train.py knows no `--auto-scale-lr`, takes no path with `--resume`, and forgets a
    `resume` that the config sets.

    Args:
        library: 'mmdet', 'mmseg' or 'mmpretrain'.
        tool: 'train' or 'test'.
        argv: the arguments in the words that fit all.
        cfg: the config with its options merged.

    Returns:
        The arguments for the library's tool.

    Raises:
        InputError: a path that mmengine's option syntax would change.
    """
    from mmca.errors import InputError

    if (library, tool) != ('mmseg', 'train'):
        return list(argv)
    parser = argparse.ArgumentParser(add_help=False)
    _add_common_train_flags(parser)
    args, rest = parser.parse_known_args(argv)
    pairs = []
    if args.auto_scale_lr:
        pairs.append('auto_scale_lr.enable=True')
    if args.resume is not None:
        pairs.append(f'load_from={None if args.resume == "auto" else args.resume}')
        if args.resume != 'auto' and parse_options(pairs)['load_from'] != args.resume:
            raise InputError(
                f'--resume {args.resume!r}: mmseg takes no path with blanks, commas or brackets; '
                'rename the file or link to it'
            )
    if args.resume is not None or cfg.get('resume'):
        rest.append('--resume')
    return [*rest, '--cfg-options', *pairs] if pairs else rest


def _start(tool: str, args: argparse.Namespace, argv: list[str]) -> int:
    import checks
    from mmengine.device import get_device

    cfg = load_config(args.config, args.cfg_options)
    library = library_of(cfg, args.config)
    work_dir = args.work_dir or cfg.get('work_dir') or f'./work_dirs/{Path(args.config).stem}'
    own_argv = translate(library, tool, argv, cfg)
    if _is_first_process():
        checks.check_flags(args, cfg, library)
        checks.check_input(tool, args, cfg, library, work_dir)
    if args.launcher == 'pytorch' and get_device() == 'cpu':
        own_argv += ['--cfg-options', *_join_cpu_group(cfg)]
    package = Path(find_spec(library).origin).parent
    script = package / '.mim' / 'tools' / f'{tool}.py'
    sys.argv = [str(script), *own_argv]
    try:
        runpy.run_path(str(script), run_name='__main__')
    except BaseException as error:
        # mmengine turns an interrupt while it writes the config into a SyntaxError.
        if _find(error, KeyboardInterrupt, '__cause__', '__context__') is None:
            raise
        print(f'interrupted: {_how_to_go_on(tool, work_dir)}', file=sys.stderr)
        return 130
    return 0


def _join_cpu_group(cfg: Config) -> list[str]:
    """Start a process group of CPUs and name the options that it needs.

    mmengine gives every process a GPU, whatever the backend, unless there is a group already; and
    it gives DDP the number of that GPU, unless the config has its own.
    """
    from torch.distributed import init_process_group

    init_process_group('gloo')
    options = ['sync_bn=None', 'model_wrapper_cfg.device_ids=None']
    if not cfg.get('model_wrapper_cfg'):
        options += [
            'model_wrapper_cfg.type=MMDistributedDataParallel',
            'model_wrapper_cfg.broadcast_buffers=False',
            f'model_wrapper_cfg.find_unused_parameters={cfg.get("find_unused_parameters", False)}',
        ]
    return options


def _parser(tool: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f'tools/{tool}.py',
        description=f'{tool.capitalize()} a detector (mmdet), a segmentor (mmseg) or a '
        "classifier\n(mmpretrain); other flags go to that library's own tool.",
        epilog=f'example:\n  {EXAMPLES[tool]}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='a file in configs/, or your own')
    if tool == 'train':
        parser.add_argument('--amp', action='store_true', help='mixed precision, GPU only')
        _add_common_train_flags(parser)
        parser.add_argument(
            '--no-validate', action='store_true', help='mmpretrain: train without validation'
        )
    else:
        parser.add_argument('checkpoint', help='a .pth file that training wrote')
        parser.add_argument(
            '--out', help='predictions: a .pkl file (mmdet, mmpretrain), a folder (mmseg)'
        )
        parser.add_argument(
            '--out-item', choices=('pred', 'metrics'), help='mmpretrain: what goes to --out'
        )
        parser.add_argument('--show', action='store_true', help='show the pictures')
        parser.add_argument('--show-dir', help='folder for the pictures; mmdet: in the work dir')
        parser.add_argument('--wait-time', type=float, help='seconds per picture with --show')
        parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    parser.add_argument('--work-dir', help='logs and checkpoints; default work_dirs/CONFIG')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        default=[],
        metavar='K=V',
        help='change the config, e.g. train_dataloader.batch_size=4',
    )
    parser.add_argument(
        '--launcher',
        choices=('none', 'pytorch', 'slurm', 'mpi'),
        default='none',
        help=f'how processes are started; see tools/dist_{tool}.sh',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, help=argparse.SUPPRESS)
    return parser


def _add_common_train_flags(parser: argparse.ArgumentParser) -> None:
    """The flags which the two libraries' train tools do not share, see `translate`."""
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the total batch size',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from a checkpoint; without one, the last in the work dir',
    )


def _how_to_go_on(tool: str, work_dir: str) -> str:
    if tool == 'test':
        return 'start the same command again'
    if (Path(work_dir) / 'last_checkpoint').is_file():
        return f'go on with the same command and --resume (last checkpoint in {work_dir})'
    return f'no checkpoint in {work_dir} yet, start the same command again'


def _is_first_process() -> bool:
    rank = os.environ.get('RANK', os.environ.get('LOCAL_RANK', '0'))
    return int(rank) == 0


def _find(
    error: BaseException | None, kind: type[BaseException], *links: str
) -> BaseException | None:
    """The error, or the nearest one of a kind that it is linked to."""
    while error is not None and not isinstance(error, kind):
        error = next((getattr(error, link) for link in links if getattr(error, link)), None)
    return error


def _fail(message: str) -> int:
    print(f'error: {message}', file=sys.stderr)
    return 2
