"""Training in several processes: a group of CPUs, and what becomes of it when one of them ends."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmengine.config import Config


def join_cpu_group(cfg: Config) -> list[str]:
    """Start a process group of CPUs and name the options that it needs.

    mmengine gives every process a GPU, whatever the backend, unless there is a group already; and
    it gives DDP the number of that GPU, unless the config has its own.

    Args:
        cfg: the config; `env_cfg.dist_cfg.timeout` is in seconds.

    Returns:
        KEY=VALUE strings for `--cfg-options`.
    """
    from torch.distributed import init_process_group

    seconds = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout')
    init_process_group('gloo', timeout=seconds and timedelta(seconds=seconds))
    options = ['sync_bn=None', 'model_wrapper_cfg.device_ids=None']
    if not cfg.get('model_wrapper_cfg'):
        options += [
            'model_wrapper_cfg.type=MMDistributedDataParallel',
            'model_wrapper_cfg.broadcast_buffers=False',
            f'model_wrapper_cfg.find_unused_parameters={cfg.get("find_unused_parameters", False)}',
        ]
    return options


def lost_process(error: BaseException) -> str | None:
    """Say in words that another process of the group does not answer any more.

    Args:
        error: what ended this process.

    Returns:
        A line, or None where the reason is another one.
    """
    from torch.distributed import DistError

    text = ' '.join(str(error).split())
    # Gloo raises RuntimeError with the place in its source.
    if not isinstance(error, DistError) and not re.search(r'\bgloo/', text):
        return None
    if re.search('timed? ?out', text, re.IGNORECASE):
        what = 'another process did not answer in time (env_cfg.dist_cfg.timeout, in seconds)'
    else:
        what = 'another process of this run ended; the reason is in its own output'
    return f'{what} [{text[:200]}]'
