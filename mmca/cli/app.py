"""Show predictions and attention in the browser.

The command prints the address of a page. Drop an image on the page to see boxes and masks, or a
label map. Click on the image to see what each circulant block attends to from there. Each open page
has a separate image. Ctrl-C stops the server and deletes all images.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import threading
from pathlib import Path

from mmca.cli.arguments import add_cfg_options, add_device, add_score_threshold, add_trained
from mmca.config.packages import FULL_STACK

REQUIRES = (*FULL_STACK, 'gradio')
EPILOG = """\
example:
  %(prog)s coco/maskrcnn_ca_pvt_s epoch_12.pth --port 8000"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_trained(parser)
    host = 'address to listen on; default 127.0.0.1, only this machine; with 0.0.0.0, anyone who '
    host += 'can reach the address can use it'
    parser.add_argument('--host', default='127.0.0.1', help=host)
    parser.add_argument('--port', type=int, default=7860, help='port; default 7860')
    add_device(parser)
    add_score_threshold(parser, 'initial value of the slider')
    add_cfg_options(parser, 'model.test_cfg.rcnn.score_thr=0.1')


def run(args: argparse.Namespace) -> int:
    from mmca.inference import Predictor
    from mmca.inference.explorer import Explorer

    explorer = Explorer(Predictor(args.config, args.checkpoint, args.device, args.cfg_options))
    with tempfile.TemporaryDirectory(prefix='mmca-app-') as folder:
        # gradio reads these when it is imported: send no statistics, keep files in our folder.
        os.environ['GRADIO_ANALYTICS_ENABLED'] = os.environ['GRADIO_SHARE'] = 'False'
        os.environ.update(HF_HUB_DISABLE_TELEMETRY='1', GRADIO_TEMP_DIR=folder)
        # It asks its own server whether it is up, and a proxy cannot answer.
        for name in ('no_proxy', 'NO_PROXY'):
            os.environ[name] = f'{os.environ.get(name, "")},localhost,{args.host}'.lstrip(',')
        from mmca.inference.app_page import build_page, serve

        title = f'{Path(args.config).stem}, {Path(args.checkpoint).name}'
        page = build_page(explorer, title, args.score_thr)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # deletes the folder, too
        try:
            serve(page, args.host, args.port)
            print(f'open {page.local_url} in a browser; press Ctrl-C to stop', flush=True)
            if explorer.no_attention:
                print(explorer.no_attention, flush=True)
            threading.Event().wait()
        finally:
            page.close(verbose=False)
    return 0
