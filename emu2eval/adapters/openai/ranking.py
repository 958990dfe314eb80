"""Log-probabilities of choices, as far as a server tells them. Nothing is guessed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from emu2eval.adapters.openai.client import Refused

_NEVER = -9999.0
"""vLLM's stand-in for a log-probability of minus infinity, which JSON lacks."""


def same_start(choices: Sequence[str]) -> tuple[str, str] | None:
    """Two choices that may share their first token, as far as a text tells: those with one first letter."""
    seen: dict[str, str] = {}
    for choice in choices:
        first = choice.lstrip()[:1]
        if first in seen or not first:
            return seen.get(first, ""), choice
        seen[first] = choice
    return None


def from_first_token(
    reply: Mapping[str, Any], choices: Sequence[str], least: float = 0.0
) -> list[float]:
    """Log-probability of each choice's first token, from the alternatives to the reply's first token.

    A token belongs to the choice that it begins, white space in front aside, and capitals too unless two
    choices would then begin alike; all tokens of a choice add up, equal texts of different tokens too.
    Raises Refused where a choice is not among the alternatives, and where those of all choices hold less than
    `least` of the probability: then the model is about to say something else.
    """
    try:
        (first, *_) = reply["choices"][0]["logprobs"]["content"]
        listed = [
            (str(entry["token"]).strip(), _finite(entry["logprob"]))
            for entry in first["top_logprobs"]
        ]
    except (KeyError, IndexError, TypeError, ValueError):
        raise Refused(
            "the server returned no alternatives to the first token (top_logprobs)"
        ) from None
    fold = str if same_start([choice.casefold() for choice in choices]) else str.casefold
    found = []
    for choice in choices:
        begun = fold(choice.lstrip())
        own = [
            math.exp(value) for token, value in listed if token and begun.startswith(fold(token))
        ]
        if not own:
            raise Refused(
                f"the choice {choice!r} is not among the {len(listed)} most likely first tokens"
            )
        found.append(math.fsum(own))
    if not math.fsum(found) >= least:
        likeliest = max(listed, key=lambda entry: entry[1])[0]
        raise Refused(
            f"the choices have {math.fsum(found):.2g} of the first token's probability, less than "
            f"{least:g} (ranking_mass); the most likely token is {likeliest!r}"
        )
    return [min(0.0, math.log(mass)) if mass > 0 else -math.inf for mass in found]


def from_prompt(reply: Mapping[str, Any], choice: str) -> list[float]:
    """Log-probability of each token of a choice that ends the prompt, from vLLM's `prompt_logprobs`.

    Raises Refused where the tokens at the end do not spell the choice.
    """
    entries = reply.get("prompt_logprobs")
    if not isinstance(entries, list):
        raise Refused("the server returned no log-probabilities for the prompt (prompt_logprobs)")
    tokens: list[str] = []
    values: list[float] = []
    for entry in reversed(entries):
        if not isinstance(entry, Mapping) or len(entry) != 1:
            break  # asked for 0 alternatives, each position holds the prompt's own token alone
        (token,) = entry.values()
        tokens.insert(0, str(token["decoded_token"]))
        values.insert(0, _finite(token["logprob"]))
        spelt = "".join(tokens)
        if spelt.lstrip() == choice.lstrip():
            return values
        if len(spelt) > len(choice) + 1:
            break
    raise Refused(f"the last tokens of the prompt, {''.join(tokens)!r}, do not spell {choice!r}")


def from_echo(reply: Mapping[str, Any], before: str, choice: str) -> list[float]:
    """Log-probability of each token of a choice, from a completion that echoes `before + choice`.

    Raises Refused where no token begins where the choice does.
    """
    try:
        found = reply["choices"][0]["logprobs"]
        listed = list(zip(found["text_offset"], found["token_logprobs"], strict=True))
    except (KeyError, IndexError, TypeError, ValueError):
        raise Refused("the server returned no log-probabilities for the echoed prompt") from None
    start, end = len(before), len(before) + len(choice)
    own = [(offset, value) for offset, value in listed if start <= offset < end]
    if not own or own[0][0] != start or any(value is None for _, value in own):
        raise Refused(f"no token of the echoed prompt begins where {choice!r} does")
    return [_finite(value) for _, value in own]


def total(values: Sequence[float], per_token: bool) -> float:
    """The choice's log-likelihood: the sum over its tokens, or their mean."""
    whole = math.fsum(values)
    return whole / len(values) if per_token else whole


def _finite(value: Any) -> float:
    number = float(value)
    return -math.inf if number <= _NEVER else number
