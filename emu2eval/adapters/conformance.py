"""What every adapter must do, checked on small prompts. A third party runs it: `emu2eval check --adapter`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import msgspec

from emu2eval import pictures
from emu2eval.adapters.base import Adapter, Limits
from emu2eval.errors import UserError
from emu2eval.keys import request_key
from emu2eval.types import (
    ChoiceOutput,
    Output,
    Picture,
    PictureOutput,
    Prompt,
    Request,
    Response,
    TextOutput,
    Turn,
)

OUTPUTS: dict[str, Output] = {
    "text": TextOutput(max_new_tokens=4),
    "choice": ChoiceOutput(("yes", "no")),
    "picture": PictureOutput(seed=1),
}
TOLERANCE = 1e-4
"""Nats by which a log-probability may differ between one batch and another: rounding, no more."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule, whether it holds, and what was seen."""

    rule: str
    holds: bool
    seen: str = ""


def check(adapter: Adapter) -> Iterator[Finding]:
    """Every rule in turn. Loads and closes the adapter; rules that need an answer end at the first error."""
    limits = getattr(adapter, "limits", None)
    if not isinstance(limits, Limits):
        yield Finding("declares its limits", False, f"`limits` is {limits!r}, not a Limits")
        return
    unknown = limits.outputs - OUTPUTS.keys()
    yield Finding(
        "declares outputs that exist",
        bool(limits.outputs) and not unknown,
        ", ".join(sorted(limits.outputs)) or "none",
    )
    yield Finding("takes at least one request at a time", limits.batch >= 1, f"{limits.batch}")
    yield _identity(adapter)
    try:
        adapter.load()
        for kind in sorted(limits.outputs & OUTPUTS.keys()):
            yield from _answers(adapter, kind)
        yield _positions(adapter)
    except UserError as error:
        yield Finding("answers", False, str(error))
    except Exception as error:
        # Whatever the adapter under test raises is a finding about it.
        yield Finding("answers without raising", False, f"{type(error).__name__}: {error}")
    finally:
        adapter.close()


def _identity(adapter: Adapter) -> Finding:
    rule = "its identity is JSON and the same each time"
    try:
        first, second = (
            msgspec.json.encode(adapter.identity()),
            msgspec.json.encode(adapter.identity()),
        )
    except (TypeError, ValueError) as error:
        return Finding(rule, False, str(error))
    return Finding(rule, first == second, first.decode()[:60])


def _answers(adapter: Adapter, kind: str) -> Iterator[Finding]:
    requests = _requests(adapter, kind)
    together = list(adapter.answer(requests))
    yield Finding(
        f"{kind}: one response a request", len(together) == len(requests), f"{len(together)}"
    )
    if len(together) != len(requests):
        return
    errors = [response.error for response in together if response.error is not None]
    yield Finding(f"{kind}: no response is an error", not errors, errors[0] if errors else "")
    if errors:
        return
    wrong = [w for w in (_wrong(r, q.output) for r, q in zip(together, requests, strict=True)) if w]
    yield Finding(
        f"{kind}: each response is of the kind asked for", not wrong, "; ".join(wrong[:1])
    )
    if wrong:
        return
    alone = [next(iter(adapter.answer([request]))) for request in requests]
    yield Finding(f"{kind}: alone as in a batch", _same(together, alone), _shown(together[0]))
    turned = list(adapter.answer(requests[::-1]))[::-1]
    yield Finding(f"{kind}: in any order", _same(together, turned))
    yield Finding(f"{kind}: again the same", _same(together, list(adapter.answer(requests))))
    if type(adapter).stream is not Adapter.stream:
        places, came = zip(*sorted(adapter.stream(requests), key=lambda pair: pair[0]), strict=True)
        once = places == tuple(range(len(requests)))
        yield Finding(f"{kind}: each once as they come", once and _same(together, came))


def _positions(adapter: Adapter) -> Finding:
    rule = "counts more positions for more demonstrations, or does not count"
    kind = min(adapter.limits.outputs)
    counts = [adapter.positions(request) for request in _requests(adapter, kind)]
    if all(count is None for count in counts):
        return Finding(rule, adapter.limits.positions is None, "does not count")
    known = [count for count in counts if count is not None]
    grows = len(known) == len(counts) and known == sorted(known) and known[0] > 0
    # A model that takes no picture is asked a single prompt, which nothing can be longer than.
    longer = len(known) == 1 or known[-1] > known[0]
    return Finding(rule, grows and longer, ", ".join(map(str, counts)))


def _requests(adapter: Adapter, kind: str) -> list[Request]:
    """Prompts of rising length: bare text, one picture, demonstrations; as far as the limits allow."""
    red, blue, grey = (_square(colour) for colour in ("red", "blue", "grey"))
    most = adapter.limits.pictures
    prompts = [Prompt(query=("What colour is the sky? Answer:",))]
    if most is None or most >= 1:
        prompts.append(Prompt(query=(grey, "What colour is the square? Answer:")))
    if most is None or most >= 3:
        turns = tuple(
            Turn((picture, "What colour is the square? Answer:"), (name,))
            for picture, name in ((red, "red"), (blue, "blue"))
        )
        prompts.append(Prompt(query=(grey, "What colour is the square? Answer:"), turns=turns))
    output = OUTPUTS[kind]
    return [Request(request_key(prompt, output, "check"), prompt, output) for prompt in prompts]


@cache
def _square(colour: str) -> Picture:
    from PIL import Image

    return pictures.from_image(Image.new("RGB", (64, 64), colour))


def _wrong(response: Response, output: Output) -> str | None:
    if isinstance(output, TextOutput):
        return None if isinstance(response.text, str) else f"text is {response.text!r}"
    if isinstance(output, ChoiceOutput):
        values = response.log_probs
        if values is None or len(values) != len(output.choices):
            return f"log_probs is {values!r} for {len(output.choices)} choices"
        if any(math.isnan(value) or value > 1e-6 for value in values):
            return f"log_probs {values!r} are no log-probabilities"
        return None
    if response.picture is None:
        return "picture is None"
    pictures.load(response.picture)
    return None


def _same(left: Sequence[Response], right: Sequence[Response]) -> bool:
    return len(left) == len(right) and all(_equal(a, b) for a, b in zip(left, right, strict=True))


def _equal(a: Response, b: Response) -> bool:
    if a.text != b.text or a.error != b.error:
        return False
    if a.picture is not None and b.picture is not None:
        return pictures.load(a.picture).tobytes() == pictures.load(b.picture).tobytes()
    return all(
        abs(x - y) <= TOLERANCE for x, y in zip(a.log_probs or (), b.log_probs or (), strict=True)
    )


def _shown(response: Response) -> str:
    return repr(response.text if response.text is not None else response.log_probs or "a picture")[
        :60
    ]
