"""TextVQA 0.5.1 (Singh et al., 2019): questions about text in OpenImages photographs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from emu2eval.data.jsonfile import parse
from emu2eval.data.paths import folder, inside
from emu2eval.data.vqa import most_common
from emu2eval.types import Image, Sample


class _Row(msgspec.Struct):
    question_id: int
    image_id: str
    question: str
    answers: list[str] = []


class _File(msgspec.Struct):
    data: list[_Row]


def read(root: Path, file: str, images: str, references: bool = True) -> Iterator[Sample]:
    """The official rows of TextVQA; ids are the question ids. The words that a reader of text would find
    (OCR tokens) are not used, as in Flamingo and Emu2.

    references: False keeps only the answers shown as demonstrations.
    file: the questions; images: the folder of the images.
    """
    shown_from = folder(root, images, where="images")
    path = inside(root, file, where="file")
    for row in parse(path, _File).data:
        yield Sample(
            id=str(row.question_id),
            fields={
                "question": row.question,
                **({"first_answer": row.answers[0]} if row.answers else {}),
            },
            images=(Image(str(inside(shown_from, f"{row.image_id}.jpg", where=str(path)))),),
            answer=most_common(row.answers) if row.answers else None,
            references=tuple(row.answers) if references else (),
            cluster=row.image_id,
        )
