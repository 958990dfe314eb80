"""The rules that every adapter must keep, checked on small prompts by `emu2eval check --adapter`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial

import msgspec

from emu2eval.adapters.base import Adapter, Limits
from emu2eval.errors import MissingExtra, UserError, origin
from emu2eval.identity import request_key
from emu2eval.media import images
from emu2eval.types import (
    ChoiceOutput,
    Image,
    ImageOutput,
    Output,
    Prompt,
    Request,
    Response,
    TextOutput,
    Turn,
)

OUTPUTS: tuple[Output, ...] = (
    TextOutput(max_new_tokens=4),
    ChoiceOutput(("yes", "no")),
    ImageOutput(seed=1),
)
"""What is requested of the built-in kinds; of other kinds, their class with its defaults."""
TOLERANCE = 1e-4
"""Nats by which a log-probability may differ between one batch and another: rounding, no more."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule, whether it holds, and what was seen. warns: it holds, and is worth a look."""

    rule: str
    holds: bool
    seen: str = ""
    warns: bool = False


def check(adapter: Adapter) -> Iterator[Finding]:
    """Every rule in turn. Loads and closes the adapter; rules that need an answer end at the first error."""
    if not isinstance(adapter, Adapter):
        kind = type(adapter).__name__
        yield Finding("is an adapter", False, f"{kind} is not a subclass of emu2eval.Adapter")
        return
    outputs = _outputs()
    declared: list[Finding] = []
    try:
        for rule, attempt in (
            ("reports what is missing", partial(_lacks, adapter)),
            ("declares its limits", partial(_limits, adapter, outputs)),
        ):
            for finding in _tried(rule, attempt):
                declared.append(finding)
                yield finding
    except _Broken:
        return
    if not all(finding.holds for finding in declared):
        return
    yield _identity(adapter)
    try:
        yield from _tried("loads", adapter.load)
        for kind in sorted(adapter.limits.outputs):
            yield from _tried(f"{kind}: answers", partial(_answers, adapter, outputs[kind]))
        yield from _tried("counts positions", partial(_positions, adapter))
    except _Broken:
        pass
    finally:
        # Whatever was found before matters more than what a broken close says.
        with suppress(_Broken):
            yield from _tried("closes", adapter.close)


class _Broken(Exception):
    """The adapter raised something, which has been reported."""


def _tried(rule: str, attempt: Callable[[], Iterator[Finding] | None]) -> Iterator[Finding]:
    """What the attempt finds, then what it raises: whatever an adapter under test raises is a finding.

    Then raises _Broken.
    """
    try:
        yield from attempt() or ()
    except _Broken:
        raise
    except UserError as error:
        yield Finding(rule, False, str(error))
    except Exception as error:
        yield Finding(f"{rule} without raising", False, raised(error))
    else:
        return
    raise _Broken


def raised(error: BaseException) -> str:
    """Type and message of an error in a plug-in, and the last place there that it came through."""
    place = origin(error)
    shown = f" ({place.rpartition('/')[2]})" if place is not None else ""
    return f"{type(error).__name__}: {error}{shown}"


def _outputs() -> dict[str, Output | None]:
    """One output of each kind that this process knows, those of plug-ins included, by its name.

    None where its class needs arguments.
    """
    found: dict[str, Output | None] = {output.kind: output for output in OUTPUTS}
    for kind in _kinds(Output):
        name = getattr(kind, "kind", None)
        if isinstance(name, str) and name not in found:
            try:
                found[name] = kind()
            except TypeError:
                found[name] = None
    return found


def _kinds(kind: type[Output]) -> Iterator[type[Output]]:
    for inner in kind.__subclasses__():
        yield inner
        yield from _kinds(inner)


def _lacks(adapter: Adapter) -> Iterator[Finding]:
    rule = "reports what is missing"
    found = adapter.lacks()
    if not isinstance(found, list) or not all(isinstance(each, UserError) for each in found):
        yield Finding(rule, False, f"lacks() returned {found!r}, not a list of UserError"[:120])
        return
    if found and not _packages(found):  # which no download brings
        adapter.fetch()
        found = adapter.lacks()
    for each in found:
        yield Finding("is complete", False, str(each))
    if _packages(found):
        raise _Broken


def _packages(lacks: list[UserError]) -> bool:
    return any(isinstance(part, MissingExtra) for each in lacks for part in each.parts)


def _limits(adapter: Adapter, outputs: Mapping[str, Output | None]) -> Iterator[Finding]:
    limits = getattr(adapter, "limits", None)
    if not isinstance(limits, Limits):
        seen = "not set" if limits is None else f"`limits` is {limits!r}"
        yield Finding("declares its limits", False, f"{seen}; set self.limits = Limits(…)")
        return
    rule, known = "declares outputs that exist", ", ".join(outputs)
    if not isinstance(limits.outputs, (frozenset, set)):
        yield Finding(
            rule, False, f"{limits.outputs!r} is not a frozenset with values from {known}"
        )
        return
    unknown = sorted(map(str, limits.outputs - outputs.keys()))
    seen = ", ".join(sorted(map(str, limits.outputs))) or "none"
    wrong = bool(unknown) or not limits.outputs
    yield Finding(rule, not wrong, f"{seen}; known are {known}" if wrong else seen)
    for kind in sorted(limits.outputs & outputs.keys()):
        if outputs[kind] is None:
            seen = f"the class of {kind!r} needs arguments; give its fields defaults"
            yield Finding("declares outputs that can be requested", False, seen)
    yield Finding("accepts at least one request at a time", limits.batch >= 1, f"{limits.batch}")


def _identity(adapter: Adapter) -> Finding:
    rule = "its identity is JSON and stable"
    try:
        first, second = (msgspec.json.encode(adapter.identity()).decode() for _ in range(2))
    except Exception as error:
        return Finding(rule, False, raised(error))
    return Finding(rule, first == second, first[:60] + ("" if first == second else f", {second}"))


def _answers(adapter: Adapter, output: Output | None) -> Iterator[Finding]:
    assert output is not None  # `_limits` has refused it
    kind, requests = output.kind, _requests(adapter, output)
    rule = f"{kind}: one response per request"
    given = adapter.answer(requests)
    if not isinstance(given, Sequence) or any(not isinstance(one, Response) for one in given):
        yield Finding(rule, False, f"answer() returned {given!r}, not a list of Response"[:120])
        return
    together = list(given)
    many = len(together) == len(requests)
    yield Finding(rule, many, f"{len(together)}" + ("" if many else f" for {len(requests)}"))
    if not many:
        return
    errors = [response.error for response in together if response.error is not None]
    yield Finding(f"{kind}: no response is an error", not errors, errors[0] if errors else "")
    if errors:
        return
    wrong = [w for w in (_wrong(r, q.output) for r, q in zip(together, requests, strict=True)) if w]
    yield Finding(
        f"{kind}: each response is of the requested kind", not wrong, "; ".join(wrong[:1])
    )
    if wrong:
        return
    alone = [next(iter(adapter.answer([request]))) for request in requests]
    yield _alike(f"{kind}: same alone and in a batch", together, alone, always=True)
    turned = list(adapter.answer(requests[::-1]))[::-1]
    yield _alike(f"{kind}: same in any order", together, turned)
    yield _alike(f"{kind}: same when repeated", together, list(adapter.answer(requests)))
    if type(adapter).stream is not Adapter.stream:
        came = list(adapter.stream(requests))
        rule, places = f"{kind}: each answer arrives once", sorted(place for place, _ in came)
        if places != list(range(len(requests))):
            yield Finding(rule, False, f"indices {places} arrived, of {len(requests)}")
        else:
            ordered = [response for _, response in sorted(came, key=lambda pair: pair[0])]
            yield _alike(rule, together, ordered)


def _positions(adapter: Adapter) -> Iterator[Finding]:
    rule = "counts more positions for more demonstrations, or does not count"
    output = _outputs()[min(adapter.limits.outputs)]
    assert output is not None
    counts = [adapter.positions(request) for request in _requests(adapter, output)]
    if all(count is None for count in counts):
        limit = adapter.limits.positions
        seen = "" if limit is None else f", although its limits declare {limit:,} positions"
        yield Finding(rule, limit is None, f"does not count{seen}")
        return
    known = [count for count in counts if count is not None]
    grows = len(known) == len(counts) and known == sorted(known) and known[0] > 0
    # A model that takes no image is asked a single prompt, which nothing can be longer than.
    longer = len(known) == 1 or known[-1] > known[0]
    yield Finding(rule, grows and longer, ", ".join(map(str, counts)))


def _requests(adapter: Adapter, output: Output) -> list[Request]:
    """Prompts of rising length: bare text, one image, demonstrations; as far as the limits allow."""
    red, blue, grey = (_square(colour) for colour in ("red", "blue", "grey"))
    most = adapter.limits.images
    prompts = [Prompt(query=("What colour is the sky? Answer:",))]
    if most is None or most >= 1:
        prompts.append(Prompt(query=(grey, "What colour is the square? Answer:")))
    if most is None or most >= 3:
        turns = tuple(
            Turn((image, "What colour is the square? Answer:"), (name,))
            for image, name in ((red, "red"), (blue, "blue"))
        )
        prompts.append(Prompt(query=(grey, "What colour is the square? Answer:"), turns=turns))
    return [Request(request_key(prompt, output, "check"), prompt, output) for prompt in prompts]


@cache
def _square(colour: str) -> Image:
    from PIL import Image as PILImage

    return images.from_pil(PILImage.new("RGB", (64, 64), colour))


def _wrong(response: Response, output: Output) -> str | None:
    """What the output itself says of the response, and what no response of any kind may hold."""
    says = output.kept(response).error
    if says is not None:
        return f"{says}, but got {_shown(response)}"
    if not isinstance(response.text, str | None):
        return f"text is {response.text!r}"
    values = response.log_probs or ()
    if any(math.isnan(value) or value > 1e-6 for value in values):
        return f"log_probs {values!r} are not log-probabilities"
    for shown in response.images:
        images.load(shown)
    return None


def _alike(
    rule: str, first: Sequence[Response], second: Sequence[Response], *, always: bool = False
) -> Finding:
    """Whether two rounds of answers are the same; where not, the first that differs."""
    if _same(first, second):
        return Finding(rule, True, _shown(first[0]) if always else "")
    pairs = zip(first, second, strict=False)
    differ = next(((a, b) for a, b in pairs if not _equal(a, b)), None)
    seen = f"{len(second)} responses" if differ is None else " and then ".join(map(_shown, differ))
    return Finding(rule, False, seen)


def _same(left: Sequence[Response], right: Sequence[Response]) -> bool:
    return len(left) == len(right) and all(_equal(a, b) for a, b in zip(left, right, strict=True))


def _equal(a: Response, b: Response) -> bool:
    said = [(r.text, r.raw, r.thought, r.error, r.ended) for r in (a, b)]
    values, others = a.log_probs or (), b.log_probs or ()
    if said[0] != said[1] or len(values) != len(others) or len(a.images) != len(b.images):
        return False
    return all(abs(x - y) <= TOLERANCE for x, y in zip(values, others, strict=True)) and all(
        images.load(x).tobytes() == images.load(y).tobytes()
        for x, y in zip(a.images, b.images, strict=True)
    )


def _shown(response: Response) -> str:
    """The response in a few words: its text or its log-probabilities, and how many images it holds."""
    said = response.text if response.text is not None else response.log_probs
    words = [repr(said)[:60]] if said is not None else []
    if response.images:
        words.append("an image" if len(response.images) == 1 else f"{len(response.images)} images")
    return " and ".join(words) or "nothing"
