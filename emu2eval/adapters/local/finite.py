"""Numbers that are none, which would become an empty answer or a black image, are refused."""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import Tensor

from emu2eval.errors import NotFinite

_HINT = (
    "some models overflow in float16: use bfloat16 or float32; otherwise the weights are damaged"
)


def check_scores(logits: Tensor) -> None:
    """Raises NotFinite for scores (…, words) that no answer can be made of."""
    if not best_are_finite(logits):
        refuse_scores()


def best_are_finite(logits: Tensor) -> Tensor:
    """Whether an answer can be made of scores (…, words), on their device, which is not waited for."""
    # Some models set words that may not be said to minus infinity; the likeliest never is.
    return torch.isfinite(logits.amax(-1)).all()


def refuse_scores() -> NoReturn:
    """Raises NotFinite."""
    raise NotFinite("the model's scores contain NaN or infinity", hint=_HINT)


def check_values(values: Tensor, what: str) -> None:
    """Raises NotFinite unless all are finite. what: such as "the visual embeddings"."""
    if not torch.isfinite(values).all():
        raise NotFinite(f"{what} contain NaN or infinity", hint=_HINT)
