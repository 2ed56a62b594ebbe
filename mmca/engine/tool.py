"""Runs a library's tool with errors in one line: python -m mmca.engine.tool SCRIPT [words ...].

Some of the tools build mmengine's own runner, and all of them read the config before any runner
could report an error.
"""

import runpy
import sys

from mmca.checkpoint.safe_loading import refuse_code
from mmca.engine.check_hook import CheckHook
from mmca.engine.failures import reported


def main() -> None:
    """Run the script in `sys.argv[1]` as Python itself would.

    Raises:
        SystemExit: after any error, see `mmca.engine.failures`.
    """
    refuse_code()
    sys.argv = sys.argv[1:]
    with reported(lambda: CheckHook.started, lambda: 'run the same command again'):
        runpy.run_path(sys.argv[0], run_name='__main__')


if __name__ == '__main__':
    main()
