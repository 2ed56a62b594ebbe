"""Find the library that a config belongs to, check the input, run that library's own tool.

The tools of mmdet, mmseg and mmpretrain come with their packages, in `<package>/.mim/tools`. They
are run as they are, with the same arguments, so that every flag of theirs works.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mmca.cli.process_group import join_cpu_group
from mmca.cli.run_errors import end_early, explained
from mmca.config.atomic_saves import atomic_saves
from mmca.config.names import OWN_HOOKS
from mmca.config.packages import import_datasets
from mmca.config.reader import library_of, load_config, parse_options
from mmca.config.shipped import find_config
from mmca.engine.safe_loading import load_checkpoints_safely
from mmca.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config


def run_tool(tool: str, args: argparse.Namespace) -> int:
    """Run `train` or `test` of the library that the config belongs to.

    Args:
        tool: 'train' or 'test'.
        args: the parsed command line, with the raw one as `argv` and its parser as `parser`.

    Returns:
        The exit code: 0, 130 after an interrupt, or 1 when another process of the run was lost.

    Raises:
        InputError: whatever the user has to fix first.
    """
    from mmengine.device import get_device
    from mmengine.registry import DefaultScope

    from mmca.checks import check, check_flags, check_work_dir, handed_over
    from mmca.checks.check import takes_third_party
    from mmca.checks.checkpoint import name_last, resumes_from_last
    from mmca.checks.classifier import classifier_weights, read_as
    from mmca.checks.flags import is_first_process
    from mmca.config.models import build_on_meta

    load_checkpoints_safely()
    cfg = load_config(args.config, args.cfg_options)
    library = library_of(cfg, args.config)
    import_datasets(library)
    work_dir = default_work_dir(args, cfg)
    own_argv = translate(library, tool, with_config_file(args), cfg)
    prepared, parsed, renamed = [], {}, None
    if is_first_process(args.launcher):
        check_flags(tool, args, cfg, library)
        with explained(cfg, tool, work_dir):
            found = check(tool, args, cfg, library, work_dir)
        check_work_dir(work_dir)
        if tool == 'train' and resumes_from_last(args, cfg):
            name_last(work_dir, found.checkpoint)
        print(found.summary, flush=True)
        prepared, parsed, renamed = found.prepared, found.parsed, found.renamed
        del found  # which holds the parsed files as well
    elif takes_third_party(tool, library) and os.path.isfile(args.checkpoint):
        with DefaultScope.overwrite_default_scope(library):
            renamed = classifier_weights(args.checkpoint, build_on_meta(cfg.model))
    options = missing_hooks(cfg) if tool == 'train' else []
    if args.launcher == 'pytorch' and get_device() == 'cpu':
        options += join_cpu_group(cfg)
    if options:
        own_argv += ['--cfg-options', *options]
    script = Path(find_spec(library).origin).parent / '.mim' / 'tools' / f'{tool}.py'
    sys.argv = [str(script), *own_argv]
    try:
        reading = read_as(args.checkpoint, renamed) if renamed else nullcontext()
        with (
            explained(cfg, tool, work_dir),
            handed_over(library, prepared, parsed),
            atomic_saves(),
            reading,
        ):
            runpy.run_path(str(script), run_name='__main__')
    except BaseException as error:
        code = end_early(error, tool, work_dir)
        if code is None:
            raise
        return code
    return 0


def default_work_dir(args: argparse.Namespace, cfg: Config) -> str:
    """Where logs and checkpoints go: the flag, the config's, or work_dirs/CONFIG."""
    return args.work_dir or cfg.get('work_dir') or f'./work_dirs/{Path(args.config).stem}'


def with_config_file(args: argparse.Namespace) -> list[str]:
    """Put the file into a command line that has the name of a shipped config.

    Args:
        args: the parsed command line, with the raw one as `argv` and its parser as `parser`.

    Returns:
        The raw command line with the config's file.
    """
    file = find_config(args.config)
    for index, word in enumerate(args.argv):
        changed = [*args.argv[:index], file, *args.argv[index + 1 :]]
        # The same word may be the value of a flag, too.
        if word == args.config and args.parser.parse_known_args(changed)[0].config == file:
            return changed
    raise AssertionError(f'no {args.config} in {args.argv}')


def missing_hooks(cfg: Config) -> list[str]:
    """Options that give a config the hooks which every training should have.

    Args:
        cfg: the config; what it says of a hook stands.

    Returns:
        KEY=VALUE strings for `--cfg-options`.
    """
    defaults = cfg.get('default_hooks') or {}
    types = [hook.get('type') for hook in cfg.get('custom_hooks') or []]
    return [
        f'default_hooks.{name}.type={kind}'
        for name, kind in OWN_HOOKS.items()
        if name not in defaults and kind not in types
    ]


def translate(library: str, tool: str, argv: Sequence[str], cfg: Config) -> list[str]:
    """Write the common flags as one library's tool takes them.

    mmseg's train.py knows no `--auto-scale-lr`, takes no path with `--resume`, and forgets a
    `resume` that the config sets.

    Args:
        library: 'mmdet', 'mmseg' or 'mmpretrain'.
        tool: 'train' or 'test'.
        argv: the arguments that fit all libraries.
        cfg: the config with its options merged.

    Returns:
        The arguments for the library's tool.

    Raises:
        InputError: a path that mmengine's option syntax would change.
    """
    if (library, tool) != ('mmseg', 'train'):
        return list(argv)
    parser = argparse.ArgumentParser(add_help=False)
    add_translated_flags(parser)
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


def add_translated_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags which the libraries' train tools do not share, see :func:`translate`."""
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


def add_common_flags(parser: argparse.ArgumentParser, work_dir: str = 'work_dirs/CONFIG') -> None:
    """Add the flags which training and testing share, but --cfg-options.

    Args:
        parser: gets them.
        work_dir: the default of --work-dir, in words.
    """
    parser.add_argument('--work-dir', help=f'logs and checkpoints; default {work_dir}')
    parser.add_argument(
        '--launcher',
        choices=('none', 'pytorch', 'slurm', 'mpi'),
        default='none',
        help='how processes are started, see below',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, help=argparse.SUPPRESS)
