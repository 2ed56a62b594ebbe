"""Colors for classes without a palette."""

from __future__ import annotations

import colorsys

GOLDEN_RATIO = 0.618034


def make_palette(number: int) -> list[list[int]]:
    """Make distinct colors, whose hues are a golden ratio apart.

    Args:
        number: of classes.

    Returns:
        One RGB color a class, 0 to 255.

    Example:
        >>> make_palette(2)
        [[229, 45, 45], [45, 99, 229]]
    """
    colors = (colorsys.hsv_to_rgb(i * GOLDEN_RATIO % 1, 0.8, 0.9) for i in range(number))
    return [[int(255 * value) for value in color] for color in colors]
