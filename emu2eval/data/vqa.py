"""The file format of VQA v2 (Goyal et al., 2017) and OK-VQA: questions, annotations, COCO pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from emu2eval.data.paths import inside
from emu2eval.errors import DataError
from emu2eval.types import Picture, Sample

File = TypeVar("File")


class _Question(msgspec.Struct, gc=False):
    image_id: int
    question: str
    question_id: int


class _Questions(msgspec.Struct):
    questions: list[_Question]


class _Answer(msgspec.Struct, gc=False):
    answer: str
    raw_answer: str | None = None


class _Annotation(msgspec.Struct, gc=False):
    question_id: int
    image_id: int
    answers: list[_Answer]
    question_type: str = ""
    answer_type: str = ""
    multiple_choice_answer: str | None = None


class _Annotations(msgspec.Struct):
    annotations: list[_Annotation]


def read(
    root: Path,
    questions: str,
    pictures: str,
    picture_name: str,
    annotations: str | None = None,
    references: bool = True,
) -> Iterator[Sample]:
    """The official files as samples; ids are the question ids.

    pictures: folder of the pictures; picture_name: their names, such as
    `COCO_val2014_{image_id:012d}.jpg`. annotations: absent for a hidden test split.
    references: False keeps only the answer shown as a demonstration, to save memory in a pool.
    The answer shown is `multiple_choice_answer`, the most common of the ten (ties: the first).
    """
    folder = inside(root, pictures, where="pictures")
    question_path = inside(root, questions, where="questions")
    answers: dict[int, _Annotation] = {}
    annotation_path = None
    if annotations is not None:
        annotation_path = inside(root, annotations, where="annotations")
        for annotation in _parse(annotation_path, _Annotations).annotations:
            answers[annotation.question_id] = annotation
    listed = _parse(question_path, _Questions).questions
    if not folder.is_dir():
        raise FileNotFoundError(2, "no such folder", str(folder))
    for question in listed:
        found = answers.pop(question.question_id, None)
        if annotation_path is not None and found is None:
            raise DataError(
                f"question {question.question_id} has no annotation",
                where=annotation_path,
                hint="question and annotation files must be of the same split and version",
            )
        if found is not None and found.image_id != question.image_id:
            raise DataError(
                f"question {question.question_id} is about picture {question.image_id}, "
                f"its annotation about {found.image_id}",
                where=annotation_path,
            )
        yield Sample(
            id=str(question.question_id),
            fields={"question": question.question},
            pictures=(Picture(f"{folder}/{picture_name.format(image_id=question.image_id)}"),),
            answer=_shown(found) if found else None,
            references=tuple(a.answer for a in found.answers) if found and references else (),
            cluster=str(question.image_id),
            groups=_groups(found) if found and references else {},
        )
    if answers:
        raise DataError(
            f"{len(answers)} annotations have no question, the first is {next(iter(answers))}",
            where=annotation_path,
            hint="question and annotation files must be of the same split and version",
        )


def _groups(annotation: _Annotation) -> dict[str, str]:
    groups = {
        "answer_type": annotation.answer_type,
        "question_type": annotation.question_type,
    }
    return {name: value for name, value in groups.items() if value}


def _shown(annotation: _Annotation) -> str:
    if annotation.multiple_choice_answer is not None:
        return annotation.multiple_choice_answer
    texts = [a.raw_answer or a.answer for a in annotation.answers]
    return Counter(texts).most_common(1)[0][0] if texts else ""


def _parse(path: Path, kind: type[File]) -> File:
    data = path.read_bytes()
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _damaged(path, data, error) from None


def _damaged(path: Path, data: bytes, error: Any) -> DataError:
    hint = "fetch the file again and unpack it whole"
    if data[:2] == b"PK":
        hint = "this is the zip archive itself: unpack it"
    elif not data:
        hint = "the file is empty: fetch it again"
    return DataError(f"the file is not what it should be: {error}", where=path, hint=hint)
