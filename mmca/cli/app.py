"""Show predictions and attention in a browser.

Prints the address of a page that takes an image, draws boxes, masks or a label map, and, after a
click on a place, what each circulant block attends to from there, with the block's kernel. Each
open page has its own image; all of them are deleted when the command ends, by Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import tempfile
import threading
from pathlib import Path

from mmca.cli.arguments import add_cfg_options, add_checkpoint, add_config, add_device
from mmca.config.packages import FULL_STACK
from mmca.errors import InputError

REQUIRES = (*FULL_STACK, 'gradio')
SCORE_THR = 0.3
EPILOG = """\
example:
  %(prog)s coco/maskrcnn_ca_pvt_s epoch_12.pth --port 8000"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_config(parser)
    add_checkpoint(parser)
    parser.add_argument(
        '--host',
        default='127.0.0.1',
        help='address to listen on; default 127.0.0.1, for this machine alone; 0.0.0.0 lets '
        'everybody in who can reach it',
    )
    parser.add_argument('--port', type=int, default=7860, help='default 7860')
    add_device(parser)
    parser.add_argument(
        '--score-thr',
        type=float,
        metavar='S',
        help='detectors: where the slider of the page starts; default 0.3',
    )
    add_cfg_options(parser, 'model.test_cfg.rcnn.score_thr=0.1')


def run(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C; returns the exit code."""
    from mmca.inference import Predictor
    from mmca.inference.explorer import Explorer

    if args.score_thr is not None and not 0 <= args.score_thr <= 1:
        raise InputError(f'--score-thr must be from 0 to 1, got {args.score_thr}')
    check_address(args.host, args.port)
    predictor = Predictor(args.config, args.checkpoint, args.device, args.cfg_options)
    if predictor.library == 'mmseg' and args.score_thr is not None:
        raise InputError(f'--score-thr {args.score_thr} is for detectors: drop it')
    explorer = Explorer(predictor)
    title = f'{Path(args.config).stem}, {Path(args.checkpoint).name}'
    with tempfile.TemporaryDirectory(prefix='mmca-app-') as folder:
        _prepare_gradio(args.host, folder)
        from mmca.inference.app_page import build_page, serve

        page = build_page(explorer, title, SCORE_THR if args.score_thr is None else args.score_thr)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # deletes the folder as well
        try:
            serve(page, args.host, args.port)
            print(f'open {page.local_url} in a browser; Ctrl-C ends it', flush=True)
            if explorer.no_attention:
                print(explorer.no_attention, flush=True)
            threading.Event().wait()
        finally:
            page.close(verbose=False)
    return 0


def check_address(host: str, port: int) -> None:
    """See to it that the server can listen, before a model is built.

    Args:
        host: a name or a number.
        port: from 1 to 65535.

    Raises:
        InputError: no such host here, or the port is in use or not allowed.
    """
    if not 0 < port < 65536:
        raise InputError(f'--port must be from 1 to 65535, got {port}')
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        raise InputError(
            f'cannot listen on --host {host} --port {port}: {error.strerror}; name another'
        ) from error


def _prepare_gradio(host: str, folder: str) -> None:
    """What gradio reads when it is imported: no statistics are sent, files go to our folder."""
    os.environ['GRADIO_ANALYTICS_ENABLED'] = os.environ['GRADIO_SHARE'] = 'False'
    os.environ['HF_HUB_DISABLE_TELEMETRY'] = '1'
    os.environ['GRADIO_TEMP_DIR'] = folder
    # It asks its own server whether it is up, which a proxy cannot answer.
    for name in ('no_proxy', 'NO_PROXY'):
        os.environ[name] = ','.join([*filter(None, [os.environ.get(name)]), 'localhost', host])
