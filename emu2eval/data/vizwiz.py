"""VizWiz-VQA (Gurari et al., 2018): images by blind people; some of their questions have no answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from emu2eval.data.jsonfile import parse
from emu2eval.data.paths import folder, inside
from emu2eval.data.vqa import most_common
from emu2eval.types import Image, Sample


class _Answer(msgspec.Struct, gc=False):
    answer: str
    answer_confidence: str | None = None


class _Row(msgspec.Struct):
    image: str
    question: str
    answers: list[_Answer] = []
    answer_type: str | None = None
    answerable: int | None = None


def read(root: Path, file: str, images: str, references: bool = True) -> Iterator[Sample]:
    """The official rows of VizWiz; each image has one question, so ids are the images' names.

    references: False keeps only the answers shown as demonstrations. Groups: answer_type, and answerable
    (yes or no), which `scorers.vizwiz` scores too. How sure the annotators were are the alternatives
    "confidence", by which OpenFlamingo's evaluation tells their answers apart.
    file: the annotations; images: the folder of the images.
    """
    shown_from = folder(root, images, where="images")
    path = inside(root, file, where="file")
    for row in parse(path, list[_Row]):
        answers = [a.answer for a in row.answers]
        groups = {}
        if row.answer_type:
            groups["answer_type"] = row.answer_type
        if row.answerable is not None:
            groups["answerable"] = "yes" if row.answerable else "no"
        yield Sample(
            id=row.image,
            fields={
                "question": row.question,
                **({"first_answer": answers[0]} if answers else {}),
            },
            images=(Image(str(inside(shown_from, row.image, where=str(path)))),),
            answer=most_common(answers) if answers else None,
            references=tuple(answers) if references else (),
            cluster=row.image,
            groups=groups if references else {},
            alternatives=_confidences(row) if references else {},
        )


def _confidences(row: _Row) -> dict[str, tuple[str, ...]]:
    given = [a.answer_confidence for a in row.answers]
    return {"confidence": tuple(map(str, given))} if given and None not in given else {}
