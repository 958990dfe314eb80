"""A kind of output: an image, and beside it a text that names the box of what it shows."""

import re
from dataclasses import dataclass, replace
from typing import ClassVar

from emu2eval import Output, Response


@dataclass(frozen=True)
class BoxedImage(Output):
    """side: of the image, in pixels."""

    kind: ClassVar[str] = "boxed"
    side: int = 32

    def kept(self, response: Response) -> Response:
        if not response.images:
            return replace(response, error="no image")
        numbers = re.findall(r"\d+", response.text or "")
        if len(numbers) != 4:
            return replace(response, error=f"no box in {response.text!r}")
        return replace(response, text=" ".join(numbers), raw=response.text)
