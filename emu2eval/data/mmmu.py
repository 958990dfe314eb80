"""MMMU (Yue et al., 2024): college exams in 30 subjects, as parquet files of each on the hub."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from emu2eval.data import parquet
from emu2eval.data.damaged import spared
from emu2eval.data.options import check_letter, option_fields
from emu2eval.data.paths import inside
from emu2eval.errors import DataError, UnknownName
from emu2eval.types import Image, Sample

DISCIPLINES = {
    "Art and Design": "Art Art_Theory Design Music",
    "Business": "Accounting Economics Finance Manage Marketing",
    "Science": "Biology Chemistry Geography Math Physics",
    "Health and Medicine": "Basic_Medical_Science Clinical_Medicine "
    "Diagnostics_and_Laboratory_Medicine Pharmacy Public_Health",
    "Humanities and Social Science": "History Literature Sociology Psychology",
    "Tech and Engineering": "Agriculture Architecture_and_Engineering Computer_Science Electronics "
    "Energy_and_Power Materials Mechanical_Engineering",
}
DISCIPLINE_OF = {name: area for area, names in DISCIPLINES.items() for name in names.split()}

_COLUMNS = ("id", "question", "options", "question_type", "answer")
_IMAGES = [f"image_{number}" for number in range(1, 8)]
_MARK = re.compile(r"<image (\d+)>")


def read(
    root: Path, folder: str, part: str, subjects: Sequence[str] | None = None
) -> Iterator[Sample]:
    """The questions of MMMU, of a part (dev, validation or test) of every subject, or of those named.

    Files: `folder`/SUBJECT/PART-*.parquet. Options are a list written as text. The texts say `<image 3>`
    where the image of the column image_3 stands; columns that only the explanation speaks of are not shown.
    A test answer is hidden, written `?`. Open questions have no choices; their references are all accepted
    answers. Groups: discipline, subject, question_type.
    folder: of the hub's repository; part: dev, validation or test; subjects: those wanted, absent = all.
    """
    inside(root, folder, where="folder")
    for subject in DISCIPLINE_OF if subjects is None else subjects:
        if subject not in DISCIPLINE_OF:
            raise UnknownName("subject", subject, DISCIPLINE_OF, where="subjects", of="MMMU")
        for row in parquet.rows(root / folder, f"{subject}/{part}-*.parquet", _COLUMNS, _IMAGES):
            yield spared(row.cells["id"], partial(_sample, row.cells, subject, row.where))


def _sample(row: Mapping[str, Any], subject: str, where: str) -> Sample:
    closed = row["question_type"] == "multiple-choice"
    options = _list(row["options"], where) if closed else []
    answers = [] if row["answer"] in ("?", "", None) else [row["answer"]]
    if answers and closed:
        check_letter(answers[0], options, where=where)
    elif answers and answers[0].startswith("["):
        answers = _list(answers[0], where)
    shown = {column: image for column in _IMAGES if isinstance(image := row[column], Image)}
    texts = (row["question"], *options)
    marked = sorted({int(number) for text in texts for number in _MARK.findall(text)})
    for number in marked:
        if f"image_{number}" not in shown:
            raise DataError(
                f"the text refers to image {number}, but the row has {', '.join(shown) or 'none'}",
                where=where,
            )
    return Sample(
        id=row["id"],
        fields={
            "question": row["question"],
            "question_type": "multiple-choice" if closed else "open",
            **option_fields(options),
        },
        images=tuple(shown[f"image_{number}"] for number in marked),
        numbers=tuple(marked),
        answer=answers[0] if answers else None,
        references=tuple(answers),
        choices=tuple(options),
        groups={
            "discipline": DISCIPLINE_OF[subject],
            "subject": subject,
            "question_type": "multiple-choice" if closed else "open",
        },
    )


def _list(text: str, where: str) -> list[str]:
    """A list that is written as Python writes it: read as a literal, never run."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = None
    if not isinstance(value, list):
        raise DataError(f"{text[:60]!r} is not a list", where=where, hint="download the file again")
    return [str(item) for item in value]
