"""ScienceQA (Lu et al., 2022): school questions; the questions with an image, problems.json's IMG part."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from string import ascii_uppercase

import msgspec

from emu2eval.data.damaged import spared
from emu2eval.data.jsonfile import parse
from emu2eval.data.options import option_fields
from emu2eval.data.paths import inside
from emu2eval.errors import DataError, UnknownName
from emu2eval.types import Image, Sample


class _Problem(msgspec.Struct, gc=False):
    question: str
    choices: list[str]
    answer: int
    split: str
    image: str | None = None
    hint: str = ""
    lecture: str = ""
    grade: str = ""
    subject: str = ""


def read(root: Path, problems: str, splits: str, images: str, part: str) -> Iterator[Sample]:
    """The problems of ScienceQA, of a part (train, val, test, …) that have an image, `images`/SPLIT/ID/FILE.

    Fields: hint and lecture are empty where a problem has none; two spaces are one, as ScienceQA's authors
    and LLaVA (c121f04, scripts/convert_sqa_to_llava_base_prompt.py) prompt with them. Groups: subject, and
    grades as the paper splits them, 1 to 6 and 7 to 12.
    problems: problems.json; splits: pid_splits.json; part: train, val, test or a smaller one; images: the
    folder of the images.
    """
    path = inside(root, problems, where="problems")
    listed = parse(inside(root, splits, where="splits"), dict[str, list[str | int]])
    if part not in listed:
        raise UnknownName("part", part, listed, where=root / splits, of="ScienceQA")
    known = parse(path, dict[str, _Problem])
    folder = inside(root, images, where="images")
    for number in listed[part]:
        problem_id = str(number)
        problem = known.get(problem_id)
        if problem is None:
            raise DataError(
                f"problem {problem_id} of {splits} is missing",
                where=path,
                hint="both files must be from the same release",
            )
        if problem.image is None:
            continue
        where = f"{path}, problem {problem_id}"
        yield spared(problem_id, partial(_sample, problem_id, problem, folder, where))


def _sample(problem_id: str, problem: _Problem, folder: Path, where: str) -> Sample:
    if not 0 <= problem.answer < len(problem.choices):
        raise DataError(
            f"the answer's index is {problem.answer}, but there are {len(problem.choices)} choices",
            where=where,
        )
    letter = ascii_uppercase[problem.answer]
    texts = {
        "question": problem.question,
        "hint": problem.hint.strip(),
        "lecture": problem.lecture,
        **option_fields(problem.choices),
    }
    file = f"{problem.split}/{problem_id}/{problem.image}"
    return Sample(
        id=problem_id,
        fields={name: text.replace("  ", " ") for name, text in texts.items()},
        images=(Image(str(inside(folder, file, where=where))),),
        answer=letter,
        references=(letter,),
        choices=tuple(problem.choices),
        cluster=problem_id,
        groups=_groups(problem),
    )


def _groups(problem: _Problem) -> dict[str, str]:
    groups = {"subject": problem.subject} if problem.subject else {}
    year = problem.grade.removeprefix("grade")
    if year.isdecimal():
        groups["grades"] = "1-6" if int(year) <= 6 else "7-12"
    return groups
