"""Numbers that are none, which would become an empty answer or a black image, are refused."""

from __future__ import annotations

import torch
from torch import Tensor

from emu2eval.errors import NotFinite

_HINT = (
    "some models overflow in float16: use bfloat16 or float32; otherwise the weights are damaged"
)


def check_scores(logits: Tensor) -> None:
    """Raises NotFinite for scores (…, words) that no answer can be made of."""
    # Some models set words that may not be said to minus infinity; the likeliest never is.
    best = logits.amax(-1)
    if not torch.isfinite(best).all():
        raise NotFinite("the model's scores contain NaN or infinity", hint=_HINT)


def check_values(values: Tensor, what: str) -> None:
    """Raises NotFinite unless all are finite. what: such as "the visual embeddings"."""
    if not torch.isfinite(values).all():
        raise NotFinite(f"{what} contain NaN or infinity", hint=_HINT)
