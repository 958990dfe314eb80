"""The file that the server of a hidden test split wants: made of stored answers, complete, and checked."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from emu2eval.errors import StoreError
from emu2eval.scorers.vqa import normalise
from emu2eval.types import Sample


def _own_id(sample: Sample) -> str | int:
    return sample.id


@dataclass(frozen=True)
class Format:
    """How a server wants answers: a JSON list of {id_key: id, answer_key: answer}; or without keys one
    mapping of ids to answers. id, answer: what they are made of."""

    id_key: str | None = None
    answer_key: str | None = None
    id: Callable[[Sample], str | int] = _own_id
    answer: Callable[[str], str] = str

    def build(self, questions: Sequence[Sample], answers: Mapping[str, str]) -> Any:
        """The whole file; a question without an answer gets the empty one."""
        pairs = [(self.id(q), self.answer(answers.get(q.id, ""))) for q in questions]
        if self.id_key is None:
            return dict(pairs)
        return [{self.id_key: name, self.answer_key: answer} for name, answer in pairs]

    def problems(self, content: Any, questions: Sequence[Sample]) -> list[str]:
        """What the server would refuse in the content of a file, one line each; empty = nothing."""
        pairs = self._pairs(content)
        if isinstance(pairs, str):
            return [pairs]
        wanted = Counter(self.id(question) for question in questions)
        given = Counter(name for name, _ in pairs)
        return [
            f"{len(names):,} {what} (the first is {names[0]!r})"
            for what, names in (
                (
                    "questions in the official list share an id",
                    [n for n, c in wanted.items() if c > 1],
                ),
                ("ids appear twice", [name for name, count in given.items() if count > 1]),
                ("questions are missing", [name for name in wanted if name not in given]),
                ("ids are not in the official list", [n for n in given if n not in wanted]),
                ("answers are not strings", [n for n, a in pairs if not isinstance(a, str)]),
            )
            if names
        ]

    def _pairs(self, content: Any) -> list[tuple[Any, Any]] | str:
        if self.id_key is None:
            return list(content.items()) if isinstance(content, dict) else "not a JSON object"
        if not isinstance(content, list):
            return "not a JSON list"
        for number, entry in enumerate(content):
            if not isinstance(entry, dict) or set(entry) != {self.id_key, self.answer_key}:
                return f"entry {number} is not {{{self.id_key}, {self.answer_key}}}: {entry!r}"
        return [(entry[self.id_key], entry[self.answer_key]) for entry in content]


def _number(sample: Sample) -> int:
    return int(sample.id)


VQA = Format("question_id", "answer", id=_number)
"""VQAv2 on EvalAI: every question of test2015, also when only test-dev was answered."""

VIZWIZ = Format("image", "answer", answer=normalise)
"""VizWiz on EvalAI: by the image's name, which is the id. Its server compares answers as they are."""

GQA = Format("questionId", "prediction")
"""GQA on EvalAI: compared as they are, so the task's clean-up decides their case and full stop."""

MMMU = Format()
"""MMMU on EvalAI: one object of question ids and answers, letters for multiple choice."""


def write(path: Path, content: Any, form: Format, questions: Sequence[Sample]) -> int:
    """Writes the file whole or not at all and reads it again to check it; returns its bytes.

    Raises StoreError where it cannot be written, or where the server would refuse it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(msgspec.json.encode(content))
        problems = form.problems(msgspec.json.decode(temporary.read_bytes()), questions)
        if problems:
            raise StoreError(
                "the server would refuse this file: " + "; ".join(problems), where=path
            )
        temporary.replace(path)
    except OSError as error:
        raise StoreError(
            f"cannot write the file ({error.strerror})",
            where=path,
            hint="choose another one with --out",
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
    return path.stat().st_size
