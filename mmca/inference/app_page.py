"""The page of `mmca app`. Importing it makes gradio read its environment."""

from __future__ import annotations

from html import escape
from pathlib import Path

import gradio as gr
import torch

from mmca.errors import InputError
from mmca.inference.explorer import Explorer, View, draw_attention

KEPT = 3600  # seconds that an image is kept
CLICK = 'Click a point in the image to see what each circulant block attends to from there.'
NO_IMAGE = 'Drop an image here. The server keeps it for at most an hour.'


def serve(page: gr.Blocks, host: str, port: int) -> None:
    """Start the server in a thread; raises OSError if the port is in use."""
    page.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        ssr_mode=False,
        run_history=False,  # else browsers keep the images
        enable_monitoring=False,
        footer_links=[],
        max_file_size='50mb',
        state_session_capacity=20,  # open pages whose image is kept; the oldest is dropped first
        theme=gr.themes.Default(font=['system-ui', 'sans-serif'], font_mono=['monospace']),
    )


def build_page(explorer: Explorer, title: str, score_thr: float) -> gr.Blocks:
    """Build the page; visitors share the explorer, but their images stay in their sessions."""
    detects = explorer.predictor.library == 'mmdet'

    def look(path: str, threshold: float) -> tuple:
        try:
            view = explorer.look(path)
        except (InputError, torch.OutOfMemoryError) as error:
            # The visitor knows the file by its name, not by our folder.
            return None, None, None, None, _line(str(error).replace(path, Path(path).name))
        image, text = redraw(view, threshold)
        return None, view, image, None, text

    def redraw(view: View | None, threshold: float) -> tuple:
        if view is None:
            return None, _line(NO_IMAGE)
        height, width = view.image.shape[:2]
        text = f'{view.name}, {width} x {height} pixels. '
        if detects:
            number = (view.result.scores >= threshold).sum()
            text += f'Objects that score at least {threshold:g}: {number}. '
        drawn = explorer.draw(view, threshold)[..., ::-1]
        return drawn, _line(text + (explorer.no_attention or CLICK))

    def attend(view: View | None, place: gr.SelectData) -> tuple:
        if view is None:
            return None, _line(NO_IMAGE)
        x, y = place.index
        try:
            return draw_attention(view, x, y), _line(f'Attention from x = {x}, y = {y}. {CLICK}')
        except InputError:  # a click on the legend
            return None, _line(CLICK)

    with gr.Blocks(title='mmca', analytics_enabled=False, delete_cache=(KEPT, KEPT)) as page:
        kept = gr.State(None, time_to_live=KEPT)
        gr.HTML(f'<h3>{escape(title)}</h3>')
        with gr.Row():
            with gr.Column():
                file = gr.File(label='Image', height=120)
                line = gr.HTML(_line(NO_IMAGE))
                slider = gr.Slider(
                    0, 1, score_thr, step=0.01, label='Score threshold', visible=detects
                )
                image = gr.Image(
                    label='Prediction',
                    show_label=False,
                    interactive=False,
                    format='png',
                    buttons=['download'],
                )
            with gr.Column():
                attention = gr.Plot(show_label=False)
        options = {'api_visibility': 'private'}
        file.upload(look, [file, slider], [file, kept, image, attention, line], **options)
        live = {'trigger_mode': 'always_last', 'show_progress': 'hidden'}
        slider.change(redraw, [kept, slider], [image, line], **live, **options)
        if not explorer.no_attention:
            image.select(attend, kept, [attention, line], **options)
    return page


def _line(text: str) -> str:
    return f'<p>{escape(text)}</p>'
