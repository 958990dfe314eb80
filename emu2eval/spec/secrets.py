"""What is neither stored nor shown: settings that are or hold a secret; a key, however it is written."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from emu2eval.errors import ConfigError

SHORTEST = 12
"""Characters of a secret. A shorter one (`EMPTY`, `none`) is none, and may well stand in a text."""

_NAMED = re.compile(
    r"(?:(?:api|access|secret|private|auth|subscription|signing)_?key|authorization|(?:^|_)auth|password"
    r"|passwd|passphrase|secret|credentials?|cookie|bearer|token)$"
)
_PLAIN_TOKENS = re.compile(
    r"(?:eos|bos|pad|unk|sep|cls|mask|stop|start|end|image|video|audio)_token"
)
_VARIABLE = re.compile(r"(?:^|_)(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$")
_SHAPE = re.compile(
    r"(?:sk|gsk|xai|pplx|nvapi|r8|glpat)[-_][\w-]{20,}|hf_\w{30,}|AIza[\w-]{35}|gh[opsu]_\w{36}"
    r"|AKIA[A-Z0-9]{16}|Bearer\s+\S{12,}|eyJ[\w-]+\.eyJ[\w-]+\.[\w-]*"
)
_HINT = "put the key in an environment variable and name that: --set model.settings.key_env=NAME"


def refuse(values: Any, at: str = "") -> None:
    """Raises ConfigError, without showing it, where something below `values` would keep a secret.

    By its name, at any depth (`headers.Authorization`); by the value of an environment variable that is named
    for one (`OPENAI_API_KEY`); by the shape of a known service's keys. at: what the values are called.
    """
    known = [secret for secret in _environment() if len(secret) >= SHORTEST]
    for name, key, value in _walk(values, at):
        if key is not None and value not in _NOTHING and named_for_secret(key):
            raise ConfigError(f"{_shown(name, known)} would be stored with every run", hint=_HINT)
        for text in (value, key):
            if isinstance(text, str) and (_SHAPE.search(text) or any(s in text for s in known)):
                raise ConfigError(
                    f"{_shown(name, known)} contains what looks like an API key (not shown here), "
                    "which would be "
                    "stored with every run",
                    hint=_HINT,
                )


_NOTHING: tuple[Any, ...] = (None, "", {}, [], True, False)
"""Values that keep no secret, such as that of `output.per_token`."""


def scrubbed(text: str) -> str:
    """The text without the secrets of the environment, and without what has the shape of one."""
    for secret in _environment():
        if len(secret) >= SHORTEST:
            text = Scrubber(secret)(text)
    return _SHAPE.sub("[key]", text)


def named_for_secret(name: str) -> bool:
    """
    >>> [named_for_secret(name) for name in ("X-Api-Key", "accessToken", "token", "max_tokens", "eos_token")]
    [True, True, True, False, False]
    """
    plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_").casefold()
    return _NAMED.search(plain) is not None and not _PLAIN_TOKENS.fullmatch(plain)


def _walk(value: Any, at: str) -> Iterator[tuple[str, str | None, Any]]:
    """(dotted name, last key or None, value) of everything below."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            name = f"{at}.{key}" if at else str(key)
            yield name, str(key).rpartition(".")[2], inner
            yield from _walk(inner, name)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            name = f"{at}.{number}" if at else "a setting"
            yield name, None, inner
            yield from _walk(inner, name)


def _shown(name: str, known: list[str]) -> str:
    return "a setting" if _SHAPE.search(name) or any(s in name for s in known) else name


def _environment() -> Iterator[str]:
    return (value.strip() for name, value in os.environ.items() if _VARIABLE.search(name))


class Scrubber:
    """Takes a key out of texts, however it is written: plain, quoted, escaped, in base64 or hexadecimal."""

    def __init__(self, key: str | None):
        self._key = key or ""

    def __repr__(self) -> str:
        return "Scrubber()"

    def __call__(self, text: str) -> str:
        """
        >>> key = "sk-secret/of+mine"
        >>> Scrubber(key)("a sk-secret/of+mine, sk%2Dsecret%2fof%2Bmine, c2stc2VjcmV0L29mK21pbmU=")
        'a [key], [key], [key]'
        """
        if not self._key:
            return text
        text = text.replace(self._key, "[key]")
        if len(self._key) < SHORTEST:
            return text
        for start, whole in self._in_base64:
            if start in text:  # looked for as a text first: a reply may hold megabytes of an image
                text = whole.sub("[key]", text)
        if any(mark in text for mark in "%\\&"):
            text = self._escaped.sub("[key]", text)
        return self._hexadecimal.sub("[key]", text)

    @cached_property
    def _escaped(self) -> re.Pattern[str]:
        """Each letter as it is, or as URLs, JSON, Python and HTML write it."""
        return re.compile("".join(map(_ways, self._key)))

    @cached_property
    def _hexadecimal(self) -> re.Pattern[str]:
        return re.compile(self._key.encode().hex(), re.IGNORECASE)

    @cached_property
    def _in_base64(self) -> list[tuple[str, re.Pattern[str]]]:
        """(text to look for, pattern) where the key begins at the first, second and third byte of three."""
        found = []
        for before in range(3):
            # The first and the last letters depend on what stands around the key.
            first = -(-8 * before // 6)
            last = 8 * (before + len(self._key)) // 6
            standard = base64.b64encode(bytes(before) + self._key.encode()).decode()[first:last]
            for text in {standard, standard.translate(_URL_SAFE)}:
                around = re.escape(text)
                found.append(
                    (text, re.compile(rf"[\w+/-]{{0,{1 if before else 0}}}{around}\w?={{0,2}}"))
                )
        return found


_URL_SAFE = str.maketrans("+/", "-_")


_ENTITIES = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}


def _ways(letter: str) -> str:
    code = ord(letter)
    plain = r"\\+" if letter == "\\" else rf"\\*{re.escape(letter)}"
    named = rf"|&{_ENTITIES[letter]};" if letter in _ENTITIES else ""
    return (
        rf"(?:{plain}|%(?:25)*(?i:{code:02x})|\\+(?:u00|x)(?i:{code:02x})"
        rf"|&#(?:0*{code}|[xX]0*(?i:{code:x}));{named})"
    )
