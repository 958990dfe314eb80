"""What a server says when it fails: in the body of an error, or inside a reply that came with HTTP 200."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_STATES = (
    (429, "rate_?limit|too_?many|throttl"),
    (529, "overload"),
    (503, "unavailable"),
    (504, "time_?out|timed_?out"),
    (500, "server_?error|internal"),
)
"""HTTP states that names of failures stand for, in the order in which they are looked for."""

_NO_ANSWER = re.compile(
    "filter|error|abort|cancel|safety|block|prohibit|recitation|refus|fail|time_?d?_?out|insufficient"
    "|malformed|guardrail|sensitive|spii|toxic|unspecified|interrupt|overload|disconnect",
    re.IGNORECASE,
)
"""Ends of a reply that failed, as servers name them: content_filter, error, abort, SAFETY, …"""


@dataclass(frozen=True, slots=True)
class Failure:
    """words: the server's own, on one line; names: its names for the failure; status: the HTTP state it
    stands for, where they say so. flagged: the fault is what this request shows, whatever the state.
    """

    words: str
    names: frozenset[str] = frozenset()
    status: int | None = None
    flagged: bool = False


def stated(reply: Mapping[str, Any]) -> Failure | None:
    """The failure that a body states, of the whole or of its first choice; None where it states none."""
    choices = reply.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    for place in (reply, first, first.get("message") if isinstance(first, Mapping) else None):
        if isinstance(place, Mapping):
            found = _failure(place.get("error")) or _failure(place.get("errors"))
            if found is not None:
                return found
    if reply.get("object") == "error":  # vLLM and SGLang, whose fields stand at the top
        return _failure(reply)
    return None


def is_failure(ended: str) -> bool:
    """Whether a reply that ended so failed, whatever it holds.

    >>> [is_failure(end) for end in ("stop", "length", "content_filter", "abort", "SAFETY")]
    [False, False, True, True, True]
    """
    return _NO_ANSWER.search(ended) is not None


def one_line(text: str) -> str:
    """A server's words as an error shows them, at full length: whoever shows them takes out the key first."""
    return " ".join(text.split())


def _failure(error: Any) -> Failure | None:
    if isinstance(error, list):
        error = next(filter(None, error), None)
    if not isinstance(error, Mapping):
        return Failure(one_line(str(error))) if error else None
    named = [error.get(name) for name in ("code", "status", "status_code", "type")]
    words = [error.get(name) for name in ("message", "detail", "msg")]
    said = next((str(each) for each in (*words, *named) if each), None)
    if said is None:
        return None  # some servers send the field with every reply
    about = error.get("metadata")
    flagged = isinstance(about, Mapping) and bool(
        about.get("flagged_input") or about.get("reasons")
    )
    return Failure(
        one_line(said), frozenset(str(name) for name in named if name), _status(named), flagged
    )


def _status(named: Sequence[Any]) -> int | None:
    for each in named:
        if re.fullmatch(r"[45]\d\d", str(each)):
            return int(str(each))
    for status, pattern in _STATES:
        if any(isinstance(e, str) and re.search(pattern, e, re.IGNORECASE) for e in named):
            return status
    return None
