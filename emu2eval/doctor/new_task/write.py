"""What was guessed of somebody's data, as a commented task file that passes the check and runs at once."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from emu2eval.adapters.conformance import Finding
from emu2eval.doctor.checks import check_task
from emu2eval.doctor.new_task.guess import Guess, guess
from emu2eval.doctor.new_task.look import Look, first, look, read_again
from emu2eval.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,80}")
_ORDER = ("test", "val", "dev", "testdev", "validation")
_FEW = 20


def new_task(name: str, source: Path, file: Path | None = None) -> tuple[Path, list[Finding]]:
    """Writes NAME.yaml, or the file that is named, and checks it. Refuses to write over anything.

    Raises ConfigError where the file is there or the name is none, DataError where no reader fits.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is not a valid task name",
            hint="use letters, digits, - and _, such as my-task",
        )
    file = file if file is not None else Path(f"{name}.yaml")
    _require_new(file)
    found = look(source)
    if found.reader == "image-folder":
        text = "\n".join(_folder_lines(name, found, file)) + "\n"
        return _written(file, text)
    made = guess(found)
    if not made.answers and len(found.files) > 1:
        # Answers of test splits are often kept back: what can be scored is asked.
        other = replace(found, files={k: v for k, v in found.files.items() if k != first(found)})
        tried = guess(read_again(other))
        if tried.answers:
            hidden = first(found)
            found, made = read_again(other), tried
            made.notes.append(f"the split {hidden} was ignored because it has no answers")
    path, findings = _written(file, _text(name, source, found, made, file))
    if any(not each.holds and "appears twice" in each.seen for each in findings):
        made.options["id"] = (
            False,
            "ids in the data are not unique, so a digest of the sample's content is used",
        )
        file.unlink()
        path, findings = _written(file, _text(name, source, found, made, file))
    return path, findings


def _require_new(file: Path) -> None:
    if file.exists() or file.is_symlink():
        raise ConfigError(
            "the file already exists and is not overwritten",
            where=file,
            hint="use another NAME or --file FILE, or remove it first",
        )


def _written(file: Path, text: str) -> tuple[Path, list[Finding]]:
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(text)
    except OSError as error:
        raise ConfigError(f"cannot write the file ({error.strerror})", where=file) from None
    return file, list(check_task(str(file if "/" in str(file) else Path(file))))


def _head(name: str, source: Path, file: Path, looked: str) -> Iterator[str]:
    yield f"# Written by `emu2eval new task` after inspecting {_one_line(source)} ({looked})."
    yield "# Settings with a comment were guessed: fix what is wrong, then"
    yield f"#   emu2eval check --task {_here(file)}"
    yield f"#   emu2eval run --task {_here(file)} --model most-common --shots 0 4"
    yield f"name: {_value(name)}"


def _folder_lines(name: str, found: Look, file: Path) -> Iterator[str]:
    """Of an image folder, which a preset says almost all of."""
    from emu2eval.data.image_folder import ClassFolders, ImageFolderOptions

    own = ClassFolders(found.root, ImageFolderOptions())
    splits = list(own.splits)
    yield from _head(name, found.root, file, "a folder of images for each class")
    yield "preset: classification   # see docs/how-to/own-data.md; any key here overrides it"
    yield "data:"
    yield f"  root: {_value(_root(found.root, file))}   # relative to this file"
    if splits:
        queries, pool = _sides(splits)
        yield f"  splits: {_value({each: {} for each in splits})}   # folders with these names"
        yield f"split: {queries}"
        if pool != "train":
            yield f"demonstrations: {{split: {pool}}}"
    else:
        yield "  # No folders are named train, val or test: half of each class is drawn for test."
        yield "  options: {split: {draw: {test: 0.5}, stratify: answer, seed: 0}}"
    yield "# protocol: generated      # the model writes a class name, for models without log-probabilities"


def _text(name: str, source: Path, found: Look, made: Guess, file: Path) -> str:
    rows = (
        f"{len(found.rows)} rows from the split {first(found)}"
        if first(found)
        else f"{len(found.rows)} rows"
    )
    lines = list(_head(name, source, file, rows))
    lines += [f"title: {_value(_title(made))}"]
    lines += [f"# Note: {_one_line(note)}" for note in (*found.notes, *made.notes)]
    lines += ["data:", f"  reader: {found.reader}", f"  root: {_value(_root(found.root, file))}"]
    options = {key: (value, why) for key, (value, why) in made.options.items()}
    splits, queries, pool, split = _splits(found, made)
    if split is not None:
        options["split"] = split
    letters = _lettered(made)
    if letters:
        options["answer_as"] = (
            "letter",
            "answers are given by letter; text = by the choice's text",
        )
    if made.question is not None and not made.question.isidentifier():
        options["fields"] = ({"question": made.question}, "templates call it {question}")
    if found.inside:
        options["rows"] = (found.inside, "where the rows are in the file")
    if options:
        lines.append("  options:")
        lines += [
            f"    {key}: {_value(v)}" + (f"   # {_one_line(why)}" if why else "")
            for key, (v, why) in options.items()
        ]
    lines.append("  splits:")
    lines += [f"    {_value(each)}: {_value(own)}" for each, own in splits.items()]
    lines.append(f"split: {_value(queries)}")
    few = _few(made)
    chooser = "balanced" if few else "random"
    why = f"{len(set(made.answers))} different answers" if few else "or rices, fixed, balanced"
    lines.append(f"demonstrations: {{split: {_value(pool)}, chooser: {chooser}}}   # {why}")
    lines += _asked(made, letters)
    if made.left:
        lines.append(f"# Templates can also use these columns: {_one_line(', '.join(made.left))}")
    return "\n".join(lines) + "\n"


def _title(made: Guess) -> str:
    if made.classes:
        return "Which class is it?"
    if made.closed:
        return "Questions with choices"
    return "Questions and answers" if made.question else "What is in the image?"


def _lettered(made: Guess) -> bool:
    unfit = any("none of their choices" in note for note in made.notes)
    return made.closed and not unfit and bool(made.answers)


def _few(made: Guess) -> bool:
    different = len(set(made.answers))
    return 1 < different <= _FEW and len(made.answers) >= 2 * different and not made.closed


def _asked(made: Guess, letters: bool) -> Iterator[str]:
    """Output, scorer and template."""
    longest = max((len(answer) for answer in made.answers), default=0)
    # A token is some four characters; twice that leaves room for other words.
    tokens = 5 if letters else max(10, min(256, longest // 2))
    yield f'output: {{max_new_tokens: {tokens}, stop: ["\\n"]}}'
    name = made.question if made.question is None or made.question.isidentifier() else "question"
    shown = "{images}" if made.images or made.videos else ""
    asked = f"{{{name}}}" if name else ("What is this?" if made.images or made.videos else "")
    if letters:
        yield "score: {scorer: letter, options: {rule: first_letter}}   # the first character is the letter"
        ask = f"{shown}{asked}\n{{options}}\nAnswer with the letter:"
    elif made.classes or made.closed:
        yield "score: {scorer: class_name}   # the single class named in the reply"
        ask = f"{shown}{asked} Answer:"
    elif made.references == 10:
        yield "# Ten answers each, as in VQA v2."
        yield "score: {scorer: vqa_accuracy, options: {variant: official}, clean: [first_line, strip, lower]}"
        ask = f"{shown}{asked} Short answer:"
    else:
        lower = all(answer == answer.lower() for answer in made.answers)
        clean = ["first_line", "strip", *(["lower"] if lower else []), "no_final_period"]
        note = "   # for captions: {scorer: captions} (Java)" if longest > 40 else ""
        yield f"score: {{scorer: exact_match, clean: [{', '.join(clean)}]}}{note}"
        ask = f"{shown}{asked} Answer:"
    yield "protocol: plain"
    yield "protocols:"
    yield "  plain:"
    yield f"    ask: {_value(ask)}" + ("" if name else "   # no column looks like a question")


def _splits(
    found: Look, made: Guess
) -> tuple[dict[str, dict[str, Any]], str, str, tuple[Any, str] | None]:
    """(options of each split, the queries', the pool's, the option `split`)."""
    if made.split_column is not None:
        names = list(made.splits)
        files = _files(found, next(iter(found.files)))
        queries, pool = _sides(names)
        return (
            dict.fromkeys(names, files),
            queries,
            pool,
            ({"column": made.split_column}, "its values name the splits"),
        )
    if len(found.files) > 1:
        queries, pool = _sides(list(found.files))
        return {n: _files(found, n) for n in found.files}, queries, pool, None
    (only,) = found.files
    files = _files(found, only)
    why = "no split information: half is drawn, keeping samples of one image together"
    return (
        {"test": files, "train": files},
        "test",
        "train",
        ({"draw": {"test": 0.5}, "seed": 0}, why),
    )


def _sides(names: Sequence[str]) -> tuple[str, str]:
    """(the split of queries, that of demonstrations)."""
    queries = next((each for each in _ORDER if each in names), names[-1])
    others = [each for each in names if each != queries]
    return queries, next((each for each in others if "train" in each), (others or [queries])[0])


def _files(found: Look, split: str) -> dict[str, Any]:
    names = list(found.files[split])
    if not names:
        return {}
    if len(names) == 1:
        return {"files": names[0]}
    start, end = _common(names), _common([each[::-1] for each in names])[::-1]
    end = end[max(0, len(start) + len(end) - min(map(len, names))) :]
    every = [name for each in found.files.values() for name in each]
    one_folder = len({each.rpartition("/")[0] for each in every}) == 1
    if one_folder and not set("[]?*{}") & set(start + end):
        fitting = [each for each in every if each.startswith(start) and each.endswith(end)]
        if sorted(fitting) == sorted(names):
            return {"files": f"{start}*{end}"}
    return {"files": names}


def _common(names: Sequence[str]) -> str:
    """What all names begin with."""
    low, high = min(names), max(names)
    return next((low[:n] for n, mark in enumerate(low) if high[n : n + 1] != mark), low)


def _root(root: Path, file: Path) -> str:
    """Relative to the file where that is near, else whole."""
    near = os.path.relpath(root.resolve(), file.resolve().parent)
    return str(root.resolve()) if near.startswith("../..") else near


def _here(file: Path) -> str:
    return str(file) if file.is_absolute() or "/" in str(file) else f"./{file}"


def _value(value: Any) -> str:
    """As YAML has it, on one line."""
    if isinstance(value, str) and "\n" in value:
        return json.dumps(value, ensure_ascii=False)
    text = yaml.safe_dump(
        value, default_flow_style=True, width=float("inf"), allow_unicode=True, sort_keys=False
    )
    return text.removesuffix("\n").removesuffix("\n...")


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
