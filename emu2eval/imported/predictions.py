"""Plain files of predictions, such as the official result formats, and folders of images."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emu2eval.adapters.thought import separated
from emu2eval.errors import ConfigError, DataError, UnknownName
from emu2eval.imported.entries import Entry, Log, Wanted, flat
from emu2eval.imported.files import Rows, digest
from emu2eval.media import images
from emu2eval.types import Image, Response

# What is meant for nothing else stands first: in a file with both, `answer` is often the reference.
TEXTS = (
    *("prediction", "pred", "predicted_answer", "response", "model_answer", "model_output"),
    *("generated_text", "completion", "generation", "output", "caption", "text", "answer"),
)
RANKED = ("log_probs", "logprobs", "log_likelihoods")
MODELS = ("model", "model_id", "model_name")
IMAGES = (".png", ".jpg", ".jpeg", ".webp")


def read(path: Path, rows: Rows, wanted: Wanted) -> Log:
    """A file with an answer in each row. Raises DataError, or UnknownName for the column of answers."""
    if wanted.kind == "image":
        raise ConfigError(
            "this task needs images, but the file has none",
            where=path,
            hint="give a folder of images named by sample id",
        )
    if wanted.filtered:
        raise ConfigError("--filtered and --filter are for logs of other harnesses", where=path)
    columns = list(dict.fromkeys(name for _, row in rows for name in row))
    guesses = RANKED if wanted.kind == "choice" else TEXTS
    name = wanted.answer or next((guess for guess in guesses if guess in columns), None)
    if name is None or name not in columns:
        raise UnknownName(
            "column of answers",
            name or guesses[0],
            columns,
            where=path,
            hint="choose it: --answer COLUMN"
            + (
                "; it must list the log-probability of each choice"
                if wanted.kind == "choice"
                else ""
            ),
        )
    entries = [
        Entry(where, dict(flat(_without(row, name))), _response(row.get(name), wanted.kind, where))
        for where, row in rows
    ]
    others = [guess for guess in guesses if guess in columns and guess != name]
    said = f"answers from the column {name}" + (f", not {', '.join(others)}" if others else "")
    models = {
        str(row[column]) for _, row in rows for column in MODELS if isinstance(row.get(column), str)
    }
    return Log(
        origin=path.name,
        files={path.name: digest(path)},
        entries=entries,
        answer=name,
        model=models.pop() if len(models) == 1 else None,
        notes=(said,) if wanted.answer is None else (),
    )


def read_images(folder: Path, wanted: Wanted) -> Log:
    """A folder of images, each named by the id of its sample. Raises DataError where there is none."""
    if wanted.kind != "image":
        raise ConfigError(
            f"this is a folder, but the task needs {wanted.kind}",
            where=folder,
            hint="give the file with the answers",
        )
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)
    if not found:
        raise DataError(f"the folder contains no {', '.join(IMAGES)} files", where=folder)
    entries, files = [], {}
    for path in found:
        image = Image(str(path))
        images.load(image)  # a broken one is told now
        files[path.name] = images.digest(image)
        entries.append(Entry(str(path), {"file": path.stem}, Response(images=(image,))))
    return Log(origin=f"the folder {folder.name}", files=files, entries=entries, answer="images")


def _without(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return {column: value for column, value in row.items() if column != name}


def _response(value: Any, kind: str, where: str) -> Response:
    if value is None:
        return Response(error="the file contains no answer")
    if kind == "choice":
        numbers = isinstance(value, list) and all(
            isinstance(each, (int, float)) and not isinstance(each, bool) and _fits(each)
            for each in value
        )
        if not numbers:
            raise DataError("not a list of log-probabilities", where=where)
        return Response(log_probs=tuple(float(each) for each in value))
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise DataError(f"the answer is not text but {value!r:.60}", where=where)
    return separated(Response(text=str(value)))


def _fits(value: float) -> bool:
    """A float holds it: a JSON integer may have any number of digits."""
    return isinstance(value, float) or abs(value) <= sys.float_info.max
