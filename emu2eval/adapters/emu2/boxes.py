"""The image of a box, which stands for a place in Emu2-Gen's grounded prompts (arXiv 2312.13286)."""

from __future__ import annotations

from PIL import Image, ImageDraw

SIDE = 448
"""Width and height of a box image in pixels; box coordinates run from 0 to it."""

# The authors draw with OpenCV at thickness 3, which gives lines of five pixels whose ends are these
# thirteen: |x| + |y| <= 2.
_PEN = [(x, y) for x in range(-2, 3) for y in range(-2, 3) if abs(x) + abs(y) <= 2]


def box_image(
    left: float, top: float, right: float, bottom: float, side: int = SIDE
) -> Image.Image:
    """A white outline on black, (side, side) RGB; coordinates in pixels, clipped to 0..side and sorted.

    Equal, pixel by pixel, to OpenCV's `rectangle` of thickness 3.
    """
    x1, x2 = sorted(min(max(int(x), 0), side) for x in (left, right))
    y1, y2 = sorted(min(max(int(y), 0), side) for y in (top, bottom))
    image = Image.new("RGB", (side, side))
    draw = ImageDraw.Draw(image)
    corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]
    for dx, dy in _PEN:
        draw.line([(x + dx, y + dy) for x, y in corners], fill="white")
    return image
