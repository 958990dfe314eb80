"""What an image processor raises about one image, as an error that names the image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from emu2eval.errors import ImageError, UserError
from emu2eval.media import images
from emu2eval.types import Image


@contextmanager
def taking(image: Image, by: str) -> Iterator[None]:
    """Whatever is raised inside about the image becomes an ImageError; memory that runs out stays itself.

    by: who takes it, such as "the model's image processor".
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        # By name, so that torch need not be imported to recognise its error.
        if type(error).__name__ == "OutOfMemoryError":
            raise
        # Processors are code of the models' authors: one has a limit of ratios, one loses a side to rounding.
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        size = ""
        with suppress(UserError):
            width, height = images.info(image).upright
            size = f" of {width:,} x {height:,} pixels"
        raise ImageError(
            f"{by} cannot process this image{size} ({reason[:200]})",
            where=images.where(image),
            hint="its sample stays unscored; crop or pad the image to score it",
        ) from error
