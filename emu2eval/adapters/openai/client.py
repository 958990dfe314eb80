"""One server over HTTP: retries, back-off, and errors that never show the key."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

from emu2eval.adapters.base import Cost
from emu2eval.adapters.openai.failures import Failure, one_line, stated
from emu2eval.adapters.openai.ledger import Ledger
from emu2eval.adapters.openai.lines import (
    LineError,
    Lines,
    Reply,
    TooLarge,
    Unreachable,
    Untrusted,
)
from emu2eval.adapters.openai.pace import Budget, Pace
from emu2eval.adapters.openai.route import PROXY_HINT, way
from emu2eval.errors import ConfigError, ModelError
from emu2eval.spec.secrets import SHORTEST, Scrubber
from emu2eval.types import Used

AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""HTTP states after which the same request may succeed."""

FIRST_WAIT = 0.5
"""Seconds before the second attempt where the server names none; doubled each time, up to a minute."""

MOST_WORDS = 300
"""Characters of what a server says that an error shows."""


class Refused(Exception):
    """This one request cannot be answered; the text says why."""


class Client:
    """Posts JSON and gives back JSON. key: sent as a bearer token; shown nowhere.

    timeout: seconds to wait for the server's next bytes; retries: attempts after the first;
    longest_wait: seconds; a server that asks for a longer pause ends the run. check: called where a
    connection broke; raises ModelError where the server is known to be gone.
    """

    def __init__(
        self,
        base_url: str,
        key: str | None,
        *,
        timeout: float,
        retries: int,
        longest_wait: float,
        pace: Pace,
        budget: Budget,
        ledger: Ledger,
        check: Callable[[], None] = lambda: None,
    ):
        self._check = check
        self._url = base_url.rstrip("/")
        self._key = key
        self.scrub = Scrubber(key)
        self._retries = retries
        self._longest_wait = longest_wait
        self.pace = pace
        self._budget = budget
        self._ledger = ledger
        self._chance = random.Random()
        route, trust = way(base_url)
        self._proxied = route.proxy is not None
        self._headers = [("Authorization", f"Bearer {key}")] if key else []
        self._lines = Lines(route, trust, timeout=timeout, connect=min(timeout, 10.0))

    async def close(self) -> None:
        await self._lines.close()

    async def reach(self) -> None:
        """Raises ModelError where no server answers, or it wants another key. Costs nothing."""
        for attempt in range(self._retries + 1):
            try:
                reply = await self._lines.ask("GET", "/models", self._headers)
            except Untrusted as error:
                raise self._untrusted(error) from None
            except LineError as error:
                if attempt == self._retries:
                    hint = (
                        "start the server, or set model.settings.base_url (it usually ends in /v1)"
                    )
                    raise ModelError(
                        f"the server cannot be reached: {self._problem(error)}",
                        where=self._url,
                        hint=PROXY_HINT if self._proxied else hint,
                    ) from None
                await asyncio.sleep(self._back_off(attempt))
            else:
                if reply.status in (401, 403, 407):
                    self._refusal(reply, reply.status)
                return  # whatever else it says: not every server lists its models

    async def post(
        self, path: str, body: Callable[[], Awaitable[Sequence[bytes]]], estimate: Cost
    ) -> dict[str, Any]:
        """The reply to a request, asked again where that may help; who waits for that takes no place.

        body: its pieces, made when it is sent, and again when it is sent again: what waits takes no memory.
        A failure that a reply with HTTP 200 states is taken like the status that it names; one that names
        none is left in the reply. Raises Refused for this request alone, ModelError where no request will
        be answered.
        """
        attempt = 0
        while True:
            reply, problem, state = None, "", 0
            async with self.pace.turn(_tokens(estimate)) as era:
                sent = await body()
                self._budget.reserve(estimate)
                used = estimate
                try:
                    headers = [*self._headers, ("Content-Type", "application/json")]
                    reply = await self._lines.ask("POST", path, headers, sent)
                    del sent
                    state = reply.status
                    if state >= 300:
                        used = Cost()
                    else:
                        found = self._read(reply)
                        state = self._state(stated(found))
                        counted = self._ledger.counted(found)
                        missing = Cost() if state else estimate
                        used = _cost(counted) if counted else missing
                        if counted or not state:
                            self._ledger.note(counted)
                        self.pace.correct(_tokens(used) - _tokens(estimate))
                        if not state:
                            self.pace.faster()
                            return found
                except TooLarge as error:
                    raise Refused(str(error)) from None
                except Untrusted as error:
                    used = Cost()
                    raise self._untrusted(error) from None
                except (LineError, ValueError) as error:
                    problem = self._problem(error)
                    if isinstance(error, Unreachable):
                        used = Cost()
                    else:
                        self._ledger.note(None)
                    reply = None
                    self._check()
                finally:
                    self._budget.settle(estimate, used)
                wait = self._back_off(attempt)
                if reply is not None:
                    problem = self._refusal(reply, state)
                    wait = max(wait, self._asked_for(reply))
                    if state in (429, 503, 529):
                        self.pace.slower(era, wait if _retry_after(reply.headers) else 0.0)
            if attempt >= self._retries:
                raise Refused(f"{problem} (attempts: {attempt + 1})")
            attempt += 1
            await asyncio.sleep(wait)

    def _read(self, reply: Reply) -> dict[str, Any]:
        found = _parsed(reply)
        if not found:
            raise ValueError("the reply was cut off or is not a JSON object")
        if self._key and len(self._key) >= SHORTEST:
            # In what the JSON says: its letters can be written in several ways.
            found = _each_text(found, self.scrub)
        return found

    def _state(self, failure: Failure | None) -> int:
        """The HTTP state as which a failure inside a reply is taken; 0 = it is left there."""
        if failure is None:
            return 0
        if failure.names & _NO_MORE:
            return failure.status or 429
        known = failure.status in AGAIN or failure.status in _ENDS
        return failure.status if failure.status is not None and known else 0

    def _refusal(self, reply: Reply, state: int) -> str:
        """What a refusing reply says. Raises Refused or ModelError where asking again is no use."""
        failure = stated(_parsed(reply)) or Failure("")
        inside = "" if state == reply.status else f" inside HTTP {reply.status}"
        problem = f"HTTP {state}{inside}: {self._said(reply)}"
        if failure.flagged:
            raise Refused(problem)
        if state in _ENDS or reply.redirects or failure.names & _NO_MORE:
            self._stop(reply, problem, state)
        if state not in AGAIN:
            raise Refused(problem)
        return problem

    def _stop(self, reply: Reply, problem: str, state: int) -> NoReturn:
        hint = "all answers so far are saved; fix this and run the same command again"
        if state == 407:
            hint = f"the proxy requires a user name and password, or different ones; {PROXY_HINT}"
        elif state in (401, 403):
            hint = (
                "put the key in an environment variable and name that: "
                "--set model.settings.key_env=NAME"
            )
        elif state == 404:
            hint = "check model.settings.base_url (it usually ends in /v1) and model.settings.model"
        elif reply.redirects:
            hint = "set model.settings.base_url to the server's real address; redirects are not followed"
        raise ModelError(f"the server refused the request: {problem}", where=self._url, hint=hint)

    def _asked_for(self, reply: Reply) -> float:
        wait = _retry_after(reply.headers) or 0.0
        if wait > self._longest_wait:
            raise ModelError(
                f"the server requests a pause of {wait:,.0f} seconds "
                f"(HTTP {reply.status}: {self._said(reply)})",
                where=self._url,
                hint="all answers so far are saved; run the same command again later, or raise "
                "model.settings.longest_wait",
            )
        # A little later than asked, and not all at the same moment.
        return wait + self._chance.uniform(0, min(wait, 1.0) / 10)

    def _back_off(self, attempt: int) -> float:
        """Seconds: exponential, with jitter, so that many clients do not retry at the same moment."""
        longest = min(FIRST_WAIT * 2.0**attempt, 60.0, self._longest_wait)
        return self._chance.uniform(longest / 2, longest)

    def _said(self, reply: Reply) -> str:
        failure = stated(_parsed(reply))
        words = failure.words if failure is not None else one_line(reply.text)
        return self.scrub(words)[:MOST_WORDS] or reply.reason

    def _problem(self, error: Exception) -> str:
        if isinstance(error, LineError):
            return self.scrub(str(error))[:MOST_WORDS]
        return "the reply was cut off or is not JSON"

    def _untrusted(self, error: Untrusted) -> ModelError:
        return ModelError(
            f"the server's certificate is not trusted: {error}",
            where=self._url,
            hint="if it is the right server, trust the issuer of its certificate: "
            "export SSL_CERT_FILE=/path/to/certificate.pem",
        )


_ENDS = frozenset({401, 402, 403, 404, 407})
"""HTTP states after which no request will be answered."""

_NO_MORE = frozenset({"insufficient_quota", "billing_hard_limit_reached", "account_deactivated"})


def key_from(name: str | None) -> str | None:
    """The key in the environment variable `name`. Raises ConfigError, without showing it."""
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        raise ConfigError(
            f"the environment variable {name} for the server's key is not set",
            hint=f"export {name}=…, or --set model.settings.key_env=null for a server that needs no key",
        )
    if not all("!" <= character <= "~" for character in key):
        raise ConfigError(
            f"the value of {name} is not a key: it contains spaces or special characters"
        )
    return key


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server wants to be left alone: Retry-After in seconds or as an HTTP date.

    >>> _retry_after({"retry-after": "2"}), _retry_after({"retry-after-ms": "150"})
    (2.0, 0.15)
    >>> now = "Tue, 24 Nov 2026 12:00:00 GMT"
    >>> _retry_after({"retry-after": "Tue, 24 Nov 2026 12:00:05 GMT", "date": now})
    5.0
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return float(text) * unit
    until = _date(headers.get("retry-after"))
    if until is None:
        return None
    # Measured by the server's own clock where it tells it: ours may be wrong.
    now = _date(headers.get("date")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _date(text: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _parsed(reply: Reply) -> dict[str, Any]:
    """The reply's JSON object; empty where it is none."""
    try:
        found = json.loads(reply.body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    """The value with each of its texts changed, names included."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(name): _each_text(inner, change) for name, inner in value.items()}
    if isinstance(value, list):
        return [_each_text(inner, change) for inner in value]
    return value


def _cost(used: Used) -> Cost:
    return Cost(used.requests, used.tokens_in, used.tokens_out, used.money)


def _tokens(cost: Cost) -> int:
    return cost.tokens_in + cost.tokens_out
