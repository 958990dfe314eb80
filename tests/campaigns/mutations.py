"""Mutated inputs: every stored file, task, model, data and image file, configuration and argument.

None may end in a traceback, hang, or an exit code that means nothing.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emu2eval.runs.sealed import seal

from . import world
from .program import call, working_in

VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        0,
        1,
        3,
        10**20,
        10**9,
        1e308,
        -0.5,
        "",
        "x",
        "a" * 5000,
        "\x1b[31m",
        "é\ud83d",
    ),
    *("../x", "0*", "10", [], {}, [[]], [None], [1, "a"], {"": None}, {"a": {"b": []}}, ["red"]),
    *("{image}{", "{nothing}"),
)
"""What stands in the place of a value."""

BYTES = (
    *(
        b"",
        b"\xff",
        b"\0" * 64,
        b"[" * 50_000,
        b'{"a":' * 2000,
        b"9" * 5000,
        b"\xef\xbb\xbf",
        b"\n\n",
        b"\r",
    ),
    *(b"null", b"[]", b"{}", b"1", b'""', b"NaN", b"1e999", b'"\\ud800"', b"<html>"),
    *(b"&a [*a]", b"? [a]\n", b"2020-02-31"),
)
"""What stands in the place of bytes."""

ARGUMENTS = (
    *"-1 0 1 2 1e3 nan x ../../x / . 0* text.yaml robot.yaml test.jsonl runs/text runs none labels".split(),
    *"order rices emu2 task.score.scorer=x model.settings.default=[] task.data=1 markdown csv json".split(),
    *"latex nothing.html x.svg images --trials --shots -k --limit --seed --out --set --format".split(),
    *"--protocol --task --model --index --id --groups --pivot --by --sort --paper --dry-run --batch".split(),
    *"--fit --help --judge --split".split(),
    *("", "9" * 20, "\x1b[31m", "é", "a" * 300, "task.output.max_new_tokens=" + "9" * 30),
)

VERBS = tuple(
    tuple(line.split())
    for line in """
    run -t text.yaml -m robot.yaml --dry-run
    table runs/text
    ls runs
    show -t text.yaml
    show --run runs/text
    score runs/text
    curves runs/text
    compare runs/text runs/text
    diagnose runs/text
    export runs/text
    plan -m emu2 --memory 24GiB
    import answers.jsonl -t text.yaml
    data status text.yaml
    data check text.yaml
    check -t text.yaml
    keep runs/text --into kept
    explain runs/text
    submit runs/text
    sheet runs/text
    features -t rices.yaml
    reproduce emu2 --table 1 -m robot.yaml --dry-run
    """.strip().splitlines()
)


@dataclass(frozen=True)
class Mutated:
    """outcome: as `Ended.kind`; how: seed and number make the same mutation again."""

    target: str
    number: int
    outcome: str
    seconds: float
    verb: tuple[str, ...] = ()
    fault: str = ""


@dataclass(frozen=True)
class Target:
    """Files of a sort, and what reads them. sealed: the checksum is made to hold again."""

    name: str
    files: tuple[str, ...]
    verbs: tuple[tuple[str, ...], ...]
    sealed: bool = False


def run(
    folder: Path,
    count: int,
    seed: int,
    extra: Sequence[Target] = (),
    until: float = math.inf,
    first: int = 0,
) -> list[Mutated]:
    """`count` mutations of a user's folder, which is made here; fewer once time.monotonic() passes `until`.

    extra: targets that lie in the folder already. first: the number of the first.
    """
    world.make(folder)
    (folder / "table.csv").write_text(_as_csv((folder / "test.jsonl").read_text()))
    _tabular(folder)
    _logged(folder)
    pristine = folder.with_name(f"{folder.name}-whole")
    shutil.copytree(folder, pristine)
    targets = [*_targets(folder), *extra]
    found = []
    with working_in(folder):
        for number in range(first, first + count):
            if time.monotonic() > until:
                break
            chance = random.Random(f"{seed} {number}")
            if number % (len(targets) + 1) == len(targets):
                found.append(_argued(number, chance))
            else:
                target = targets[number % (len(targets) + 1)]
                found.append(_mutated(folder, pristine, target, number, chance))
    return found


def table(found: Sequence[Mutated]) -> Counter[tuple[str, str]]:
    return Counter((each.target, each.outcome) for each in found)


def faults(found: Sequence[Mutated]) -> list[Mutated]:
    return [each for each in found if each.outcome not in ("fine", "told")]


def _targets(folder: Path) -> list[Target]:
    kinds = {kind.name: kind for kind in world.KINDS}
    runs = {
        name: str(world.run_folder(folder, kind).relative_to(folder))
        for name, kind in kinds.items()
    }
    found = []
    for name in ("text", "judge", "images", "import"):
        stored, trust = runs[name], ("--trust",) if name == "images" else ()
        verbs: list[tuple[str, ...]] = [
            ("table", stored),
            ("table", stored, "--groups", "--format", "markdown"),
            ("ls", "runs", "--out", kinds[name].out),
            ("show", "--run", stored, *trust),
            ("score", stored, *trust),
            ("compare", stored, runs["zero"], "--force"),
            ("compare", stored, stored, "--flips", "3"),
            ("diagnose", stored),
            ("export", stored),
            ("export", stored, "--format", "model-index"),
            ("keep", stored, "--into", "kept"),
            ("submit", stored, *trust),
            ("explain", stored, *trust),
            ("report", stored, "--file", "page.html", *trust),
            ("table", stored, "--pivot"),
            ("table", stored, "--paper", "emu2", "--table", "1"),
            ("curves", stored),
            kinds[name].whole,
        ]
        if name == "images":
            verbs.append(("sheet", stored, "--file", "sheet.png", *trust))
        for file in ("run.json", "report.json", "scores.jsonl", "responses.jsonl"):
            found.append(
                Target(f"{file} of {name}", (f"{stored}/{file}",), tuple(verbs), sealed=True)
            )
    judge = next(Path(folder / runs["judge"]).glob("judge/*/judge.json")).relative_to(folder)
    found.append(
        Target(
            "judge.json",
            (str(judge),),
            (("score", runs["judge"]), kinds["judge"].whole),
            sealed=True,
        )
    )
    small = ("--limit", "2", "--out", "new")
    asked = (
        ("run", "-t", "text.yaml", "-m", "robot.yaml", "-k", "1", *small),
        ("check", "-t", "text.yaml"),
        ("data", "status", "text.yaml"),
        ("data", "check", "text.yaml", "--images"),
        ("show", "-t", "text.yaml", "-k", "1"),
    )
    found += [
        Target("task YAML", ("text.yaml",), asked),
        Target(
            "task YAML with features",
            ("rices.yaml",),
            (
                ("run", "-t", "rices.yaml", "-m", "robot.yaml", "-k", "1", *small),
                ("features", "-t", "rices.yaml"),
            ),
        ),
        Target("model YAML", ("robot.yaml",), (asked[0], ("check", "-m", "robot.yaml"))),
        Target("data, JSON lines", ("test.jsonl", "train.jsonl"), asked),
        Target(
            "images", tuple(f"images/{n}.png" for n in (0, 1, 1000, 1001)), (asked[0], asked[3])
        ),
        Target(
            "predictions",
            ("answers.jsonl",),
            (("import", "answers.jsonl", "-t", "text.yaml", "-k", "0", "--out", "new"),),
        ),
    ]
    logged = ("import", _LOGS[1], "-t", "text.yaml", "--out", "new")
    found.append(
        Target("log of lm-eval", _LOGS, (logged, (*logged, "-k", "0"), (*logged, "--filtered")))
    )
    for name in ("csv", "tsv", "parquet", "json"):
        found.append(
            Target(
                f"data, {name}",
                (f"table.{name}",),
                (
                    ("run", "-t", f"{name}.yaml", "-m", "robot.yaml", *small),
                    ("data", "check", f"{name}.yaml"),
                    ("import", f"table.{name}", "-t", "text.yaml", "-k", "0", "--out", "new"),
                ),
            )
        )
    return found


_LOGS = (
    "logs/results_2026-01-01T00-00-00.json",
    "logs/samples_text_2026-01-01T00-00-00.jsonl",
)


def _logged(folder: Path) -> None:
    """Answers as lm-evaluation-harness logs them, with the results beside them."""
    results, samples = (folder / name for name in _LOGS)
    results.parent.mkdir()
    model = {"model_args": "pretrained=org/theirs", "model": "hf-multimodal"}
    about = {"config": model, "n-shot": {"text": 0}, "results": {"text": {"acc,none": 0.5}}}
    results.write_text(json.dumps({**about, "n-samples": {"text": {"original": 4}}}))
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    lines = [
        {
            "doc_id": number,
            "doc": row,
            "target": row["answer"],
            "acc": 1.0,
            "filter": "none",
            "arguments": [[row["question"], {"until": ["x"]}]],
            "resps": [["red"]],
            "filtered_resps": ["red"],
        }
        for number, row in enumerate(rows)
    ]
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _tabular(folder: Path) -> None:
    """The same questions as CSV, TSV, JSON and parquet, with a task for each."""
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    (folder / "table.tsv").write_text((folder / "table.csv").read_text().replace(",", "\t"))
    (folder / "table.json").write_text(json.dumps(rows))
    names = ["csv", "tsv", "json"]
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        (folder / "table.parquet").write_bytes(b"PAR1")
    else:
        for row in rows:
            data = (folder / "images" / row["image"]).read_bytes()
            row["image"] = {"bytes": data, "path": row["image"]}
        pq.write_table(pa.Table.from_pylist(rows), folder / "table.parquet")
    spec = json.loads((folder / "text.yaml").read_text())
    for name in (*names, "parquet"):
        spec["name"] = name
        spec["data"]["splits"]["test"] = {"files": f"table.{name}"}
        if name == "parquet":  # with a reader of its own, and images inside
            spec["data"] = {
                "reader": "parquet",
                "root": ".",
                "options": {"fields": ["question"], "answer": "answer", "groups": ["kind"]},
                "splits": {"test": {"files": "table.parquet"}},
            }
            spec["demonstrations"] = {}
        (folder / f"{name}.yaml").write_text(json.dumps(spec))


def _as_csv(lines: str) -> str:
    rows = [json.loads(line) for line in lines.splitlines()]
    return (
        "\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]) + "\n"
    )


def _mutated(
    folder: Path, pristine: Path, target: Target, number: int, chance: random.Random
) -> Mutated:
    name = chance.choice(target.files)
    path = folder / name
    data = (pristine / name).read_bytes()
    structured = path.suffix in (".json", ".jsonl", ".yaml") and chance.random() < 0.7
    made = _restructured(data, chance, target.sealed) if structured else None
    path.write_bytes(made if made is not None else _bytes(data, chance))
    verb = chance.choice(target.verbs)
    ended = call(*verb)
    outcome = Mutated(target.name, number, ended.kind, ended.seconds, verb, ended.fault or "")
    for top in {path.relative_to(folder).parts[0], "runs", "new", "kept"}:
        if not (pristine / top).exists():
            shutil.rmtree(folder / top, ignore_errors=True)
        elif (pristine / top).is_file():
            shutil.copyfile(pristine / top, folder / top)
        elif top != "runs" or "runs" in name or verb[0] in ("run", "import", "score"):
            shutil.rmtree(folder / top)
            shutil.copytree(pristine / top, folder / top)
    return outcome


def _argued(number: int, chance: random.Random) -> Mutated:
    arguments = list(chance.choice(VERBS))
    for _ in range(chance.randint(1, 4)):
        place = chance.randint(0 if chance.random() < 0.05 else 1, len(arguments))
        if chance.random() < 0.3 and place < len(arguments):
            arguments[place] = chance.choice(ARGUMENTS)
        else:
            arguments.insert(place, chance.choice(ARGUMENTS))
    # Somewhere harmless, whatever the argument named.
    ended = call(*arguments, *(("--out", "new") if arguments[0] == "run" else ()))
    return Mutated(
        "arguments", number, ended.kind, ended.seconds, tuple(arguments), ended.fault or ""
    )


def _restructured(data: bytes, chance: random.Random, sealed: bool) -> bytes | None:
    """One or two values of a JSON document, or of one of its lines, replaced, removed or doubled."""
    lines = [data]
    try:
        values = [json.loads(data)]
    except ValueError:
        lines = data.splitlines()
        try:
            values = [json.loads(line) for line in lines]
        except ValueError:
            return None
    place = chance.randrange(len(values))
    holder = [values[place]]
    for _ in range(chance.randint(1, 2)):
        chance.choice((_replace, _replace, _replace, _remove, _add))(holder, chance)
    if not holder:
        return b""
    value = holder[0]
    if sealed and isinstance(value, dict):
        value.pop("sum", None)
    line = json.dumps(value, separators=(",", ":")).encode()
    lines[place] = seal(line) if sealed and line.startswith(b'{"') else line
    return b"\n".join(lines) + b"\n"


Holder = list[Any] | dict[str, Any]


def _places(value: Any, holder: Holder, key: Any) -> list[tuple[Holder, Any]]:
    found = [(holder, key)]
    inner = (
        enumerate(value)
        if isinstance(value, list)
        else value.items()
        if isinstance(value, dict)
        else ()
    )
    for name, each in inner:
        found += _places(each, value, name)
    return found


def _somewhere(holder: list[Any], chance: random.Random) -> tuple[Holder, Any] | None:
    found = _places(holder[0], holder, 0) if holder else []
    return chance.choice(found[1:] or found) if found else None


def _replace(holder: list[Any], chance: random.Random) -> None:
    if (place := _somewhere(holder, chance)) is not None:
        place[0][place[1]] = json.loads(json.dumps(chance.choice(VALUES)))


def _remove(holder: list[Any], chance: random.Random) -> None:
    if (place := _somewhere(holder, chance)) is not None:
        del place[0][place[1]]


def _add(holder: list[Any], chance: random.Random) -> None:
    if (place := _somewhere(holder, chance)) is not None:
        value = place[0][place[1]]
        if isinstance(value, dict):
            value[chance.choice(("x", "", "name", "options", "split"))] = chance.choice(VALUES[:20])
        elif isinstance(value, list):
            value.append(value[0] if value else None)


def _bytes(data: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(data) + 1)
    end = min(len(data), start + chance.choice((1, 1, 4, 64, 4096)))
    change: Callable[[], bytes] = chance.choice(
        (
            lambda: data[:start] + chance.choice(BYTES) + data[end:],
            lambda: data[:start] + chance.choice(BYTES) + data[start:],
            lambda: data[:start],
            lambda: data[:start] + data[end:],
            lambda: data[:end] + data[start:],
            lambda: data[:start] + chance.randbytes(end - start) + data[end:],
            lambda: chance.choice(BYTES),
        )
    )
    return change()
