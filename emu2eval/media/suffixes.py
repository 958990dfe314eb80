"""Endings of names, without the dot, by which images and videos are found in folders and archives."""

from __future__ import annotations

IMAGES = frozenset(
    "png jpg jpeg jfif webp gif bmp dib tif tiff ppm pgm pbm pnm jp2 j2k avif ico tga mpo".split()
)
VIDEOS = frozenset("mp4 m4v mov mkv webm avi mpg mpeg ts flv ogv 3gp".split())


def of(name: str) -> str:
    """The ending of a file's name.

    >>> of("a.b.JPG"), of(".hidden"), of("none")
    ('jpg', '', '')
    """
    stem, dot, ending = name.rpartition(".")
    return ending.lower() if dot and stem else ""
