"""Lay a transparent PNG on a dark card: `python docs/scripts/card.py kernels.png docs/kernels.jpg`.

The card, 1,400 pixels wide, is legible on white and on black pages.
"""

import sys

from PIL import Image, ImageOps

CARD = '#1e2129'

if __name__ == '__main__':
    drawing = Image.open(sys.argv[1])
    card = Image.new('RGBA', drawing.size, CARD)
    card.alpha_composite(drawing.convert('RGBA'))
    card = ImageOps.expand(card.convert('RGB'), 24, CARD)
    card = ImageOps.contain(card, (1400, 1400))
    card.save(sys.argv[2], quality=88)
