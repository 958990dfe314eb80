"""Scorers that ask a judge: what is asked, and how a reply is read. Who judges is not known here."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Literal

from emu2eval.errors import ConfigError
from emu2eval.scorers.base import Scorer, ScoringError
from emu2eval.spec.yamlfile import Spec, read_yaml, validate
from emu2eval.types import Image, Part, Prompt, Response, Sample, Score, TextOutput

Shown = str | Image | Sequence[Image]
"""What a {field} of a wording stands for: a text, or images of the sample or the response."""

Unreadable = Literal["unscored", "wrong"]
"""What becomes of an answer on which no reply of the judge can be read."""

UNREADABLE: Mapping[Unreadable, str] = {"unscored": "", "wrong": "+unreadable-is-wrong"}
"""What the choice adds to the name of a metric's variant."""


class _File(Spec):
    user: str
    system: str | None = None
    again: str = ""


@dataclass(frozen=True)
class Wording:
    """The wording of a question to a judge. {fields} in braces are filled in; other braces are plain text.

    again: what is added when a reply could not be read. name: "own", or the file's name and digest.
    """

    name: str
    user: str
    system: str | None
    again: str
    digest: str

    @classmethod
    def read(cls, own: str, path: str | None, needed: Sequence[str]) -> Wording:
        """Our own wording of a benchmark, or that of a YAML file with user, and maybe system and again.

        Raises ConfigError where the file cannot be read or lacks a needed field.
        """
        file = Path(path) if path is not None else Path(__file__).parent / f"wording/{own}.yaml"
        document = read_yaml(file)
        given = validate(_File, document.data, document)
        whole = f"{given.system or ''}\n{given.user}"
        for field in needed:
            if f"{{{field}}}" not in whole:
                raise ConfigError(
                    f"the judge's prompt does not contain {{{field}}}",
                    where=file,
                    hint="it needs " + " and ".join(f"{{{name}}}" for name in needed),
                )
        digest = sha256(file.read_bytes()).hexdigest()
        name = "own" if path is None else f"{file.stem}-{digest[:8]}"
        return cls(name, given.user, given.system, given.again, digest)

    def prompt(self, fields: Mapping[str, Shown], *, again: bool = False) -> Prompt:
        """What the judge is shown."""
        query = _fill(self.user + (self.again if again else ""), fields)
        system = "".join(map(str, _fill(self.system, fields))) if self.system is not None else None
        return Prompt(query=query, system=system)


def _fill(text: str, fields: Mapping[str, Shown]) -> tuple[Part, ...]:
    """In one go, so that braces inside an answer stay what they are."""
    parts: list[Part] = []
    for number, piece in enumerate(re.split(r"\{(" + "|".join(fields) + r")\}", text)):
        shown = fields[piece] if number % 2 else piece
        for part in [shown] if isinstance(shown, str | Image) else shown:
            if isinstance(part, str) and parts and isinstance(parts[-1], str):
                parts[-1] += part
            elif part != "":
                parts.append(part)
    return tuple(parts)


class JudgedScorer(Scorer):
    """A scorer whose scores are made from a judge's replies.

    optional: it can also score without a judge; if one is given, it adds further numbers.
    wording: of the questions to the judge; names: what is asked about each response, such as rounds or
    orders, each of which gets one readable reply; attempts: how often it is asked for until it can be read;
    reply: how long it may be.
    """

    optional: bool = False
    attempts: ClassVar[int] = 4
    reply: ClassVar[TextOutput] = TextOutput(max_new_tokens=16)
    wording: Wording
    names: tuple[str, ...]

    @property
    def variant(self) -> str | None:
        """The wording's name."""
        return self.wording.name

    def words(self, sample: Sample, name: str) -> Wording:
        """The wording of one question, for scorers that have several."""
        return self.wording

    def every_wording(self) -> tuple[Wording, ...]:
        """All that `words` can give, for the record."""
        return (self.wording,)

    @abstractmethod
    def question(self, sample: Sample, response: Response, name: str) -> Mapping[str, Shown]:
        """What fills the wording's fields."""

    @abstractmethod
    def read(self, reply: str) -> Any:
        """What a reply says, as a JSON value; None = it cannot be read."""

    @abstractmethod
    def judged(self, sample: Sample, response: Response, said: Mapping[str, Any]) -> Score:
        """The score. said: what was read for each name; None where no reply could be."""

    def score(self, sample: Sample, response: Response) -> Score:
        raise ScoringError(
            f"{self.metric} needs a judge, but there are no judge replies",
            hint="emu2eval score RUN --judge gpt-4-0613 (or any model file)",
        )
