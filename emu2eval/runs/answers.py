"""A stored answer: everything that a response held and what was shown to get it; one line, one checksum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from emu2eval.runs.jsontext import encode
from emu2eval.runs.sealed import Damaged, seal, unseal
from emu2eval.types import Image, Mark, Response


class JudgeCase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a judge was asked about an answer.

    name: of the scorer's question; wording: its digest; attempt: which one, from 0.
    """

    name: str
    wording: str
    attempt: int = 0


class Answer(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """One response in the store, with the query that it answers and what the model was really shown.

    id: of the query's sample; trial: which draw of demonstrations; take: which of several answers to the same
    prompt. key: of the request. examples: ids of the demonstrations in the prompt, farthest first; left_out:
    how many were drawn but dropped so that the prompt fits. shown: digests of the prompt's images, in order.
    images: digests of the images that the model gave. case: of a judge's reply, whose trial and take are
    those of the answer that it judges. theirs: scores that an imported log holds.
    text: what is scored; raw: the text as it came, where that is more; thought: what the model wrote before
    its answer; log_probs: one for each choice, in nats; ended: why the answer ended; error: why there is
    none; tokens_in, tokens_out: as the model counts; marks: what a reader should know. seconds: time in the
    model.
    """

    id: str
    trial: int = 0
    take: int = 0
    key: Annotated[str, Meta(pattern="^[0-9a-f]{16,128}$")]
    examples: tuple[str, ...] = ()
    left_out: int = 0
    shown: tuple[str, ...] = ()
    text: str | None = None
    raw: str | None = None
    thought: str | None = None
    log_probs: tuple[float, ...] | None = None
    images: tuple[str, ...] = ()
    ended: str | None = None
    error: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    marks: tuple[Mark, ...] = ()
    case: JudgeCase | None = None
    theirs: dict[str, float] | None = None
    seconds: float = 0.0


class _Place(msgspec.Struct, gc=False):
    id: str
    trial: int = 0
    take: int = 0


_decode = msgspec.json.Decoder(Answer).decode
_decode_place = msgspec.json.Decoder(_Place).decode


def to_line(answer: Answer) -> bytes:
    """One line of responses.jsonl, its newline included: a JSON object that begins with its checksum."""
    return seal(encode(answer)) + b"\n"


def from_line(line: bytes) -> Answer:
    """The answer of a line. Raises Damaged where the checksum or the struct does not hold."""
    if not line.endswith(b"\n"):
        raise Damaged("it is cut off")
    try:
        return _decode(unseal(line[:-1]))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(str(error)) from None


def place_of(line: bytes) -> tuple[str, int, int]:
    """Sample, trial and take of a line whose checksum is not looked at. Raises Damaged where it has none."""
    try:
        found = _decode_place(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(str(error)) from None
    return found.id, found.trial, found.take


def of_response(response: Response, digests: tuple[str, ...] = (), **about: Any) -> Answer:
    """The answer that keeps a response. digests: of its images; about: the other fields."""
    return Answer(
        text=response.text,
        raw=response.raw,
        thought=response.thought,
        log_probs=response.log_probs,
        images=digests,
        ended=response.ended,
        error=response.error,
        tokens_in=response.tokens_in,
        tokens_out=response.tokens_out,
        marks=response.marks,
        **about,
    )


def to_response(
    answer: Answer, images: tuple[Image, ...] = (), clean: Callable[[str], str] | None = None
) -> Response:
    """The response that an answer keeps. images: those of its digests; clean: applied to its text."""
    text = answer.text
    return Response(
        text=text if clean is None or text is None else clean(text),
        raw=answer.raw,
        thought=answer.thought,
        log_probs=answer.log_probs,
        images=images,
        ended=answer.ended,
        error=answer.error,
        tokens_in=answer.tokens_in,
        tokens_out=answer.tokens_out,
        marks=answer.marks,
    )
