"""Take docs/app.png: drop a photograph on a page that `mmca app` serves, click it, photograph it.

Run `python docs/scripts/screenshot.py http://127.0.0.1:7860 photo.jpg X Y`, (X, Y) from 0 to 1
being the click's place in the image. Needs playwright and chromium.
"""

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

OUT = Path(__file__).resolve().parents[1] / 'app.png'
CLIP = {'x': 135, 'y': 10, 'width': 730, 'height': 688}  # the page without its margins


def photograph(address: str, image: str, x: float, y: float) -> None:
    """Write the page, 1,000 pixels wide, with predictions and attention."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which('chromium'), args=['--no-sandbox']
        )
        size = {'width': 1000, 'height': 800}
        page = chromium.new_page(viewport=size, device_scale_factor=1000 / CLIP['width'])
        page.goto(address)
        page.locator('input[type=file]').set_input_files(image)
        shown = page.locator('.image-frame img')
        shown.wait_for(timeout=120_000)
        box = shown.bounding_box()
        shown.click(position={'x': box['width'] * x, 'y': box['height'] * y})
        page.locator('.matplotlib img').first.wait_for(timeout=120_000)
        page.wait_for_timeout(1000)  # until the pictures are painted
        page.screenshot(path=OUT, clip=CLIP)
        chromium.close()
    colors = Image.open(OUT).convert('RGB').quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3)
    colors.save(OUT, optimize=True)  # a third of the size


if __name__ == '__main__':
    photograph(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
