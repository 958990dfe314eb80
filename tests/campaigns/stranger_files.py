"""Files from a stranger: each is tried with the verbs that read it, and nothing of it may run, leave or grow.

`try_apart` runs programs of their own, whose time and memory are measured; `benchmarks/strangers.py` does so
with all of them and prints what happened.
"""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Command = list[str]

KEY = "sk-proj-Very5ecret0123456789"
HOSTILE = "</script><img src=x onerror=alert(1)>\u2028\x1b]0;owned\x07 =1+1"
GOOD_CODES = frozenset({0, 2, 3})
MOST_SECONDS = 20.0
MOST_MEMORY = 2 << 30
_RUN = "touch ran"
"""What code in a file would do, in the working directory."""

_DRY = ["run", "--task", "./task.yaml", "--model", "most-common", "--dry-run"]
_ASK = ["run", "--task", "./task.yaml", "--model", "most-common", "--out", "out/runs"]
_READ = [
    ["ls", "runs"],
    ["table"],
    ["table", "--format", "csv"],
    ["report", "--file", "report.html"],
]


@dataclass(frozen=True)
class Stranger:
    """make: writes the files into the working directory and says which commands then read them.

    harmless: it is odd and no more, so that every command has to succeed.
    """

    name: str
    make: Callable[[Path], list[Command]]
    harmless: bool = False


@dataclass(frozen=True)
class Outcome:
    """What one command did."""

    command: Command
    code: int
    printed: str
    seconds: float = 0.0
    memory: int = 0


def task(folder: Path, rows: list[dict[str, Any]] | None = None, **changes: Any) -> None:
    """A task of a table of one question, with keys in place of its own."""
    listed = rows or [{"id": "1", "question": "q", "answer": "a"}]
    shown = ["image"] if "image" in listed[0] else []
    spec = {
        "name": "theirs",
        "title": "Theirs",
        "data": {
            "reader": "table",
            "options": {"images": shown},
            "splits": {"test": {"files": "rows.jsonl"}},
        },
        "split": "test",
        "score": {"scorer": "exact_match"},
        "protocol": "plain",
        "protocols": {"plain": {"ask": "{question}"}},
    }
    (folder / "task.yaml").write_text(yaml.safe_dump({**spec, **changes}))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in listed))


def strangers() -> list[Stranger]:
    """All of them."""
    return [
        *_yaml_files(),
        *_names(),
        *_code(),
        *_rows(),
        *_images(),
        *_pickles(),
        *_secrets(),
        *_imports(),
    ]


def _yaml_files() -> Iterator[Stranger]:
    def nine(first: str, each: str) -> str:
        lines = [f"a0: &a0 {first}"]
        lines += [
            f"a{n}: &a{n} " + each.format(", ".join([f"*a{n - 1}"] * 9)) for n in range(1, 10)
        ]
        return "\n".join(lines)

    texts = {
        "nine anchors of nine": nine("[x]", "[{}]"),
        "nine merges of nine": nine("{k: 1}", "{{<<: [{}]}}"),
        "an alias in itself": "name: &a [*a]",
        "3,000 lists": "name: " + "[" * 3000 + "]" * 3000,
        "200,000 brackets": "name: " + "[" * 200_000,
        "100,000 question marks": "? " * 100_000,
        "5,000 digits": "name: " + "9" * 5000,
        "no such day": "name: 2020-02-31",
        "a list as a key": "? [a]\n: b",
        "a tag of Python": f"name: !!python/object/apply:os.system ['{_RUN}']",
        "a tag of no value": "name: !!bool word",
        "16 MiB": "name: " + "x" * (1 << 24),
        "bytes": "\0\1\2",
    }
    for name, text in texts.items():
        for kind in ("task", "model"):
            command = (
                [*_DRY]
                if kind == "task"
                else ["run", "--task", "easy-vqa", "--model", "./model.yaml"]
            )

            def make(
                folder: Path, text: str = text, kind: str = kind, command: Command = command
            ) -> Any:
                (folder / f"{kind}.yaml").write_text(text)
                return [command]

            yield Stranger(f"YAML: {name}, {kind}", make)
    for text in ("[" * 200_000, "9" * 5000, nine("[x]", "[{}]")):

        def given(folder: Path, text: str = text[:100_000]) -> list[Command]:
            task(folder)
            return [[*_DRY, "--set", f"task.title={text}"]]

        yield Stranger(f"--set of {text[:12]}…", given)


def _names() -> Iterator[Stranger]:
    for name in (
        "org/model-7b",
        "../../../x",
        "/abs/x",
        "a\0b",
        "n" * 5000,
        "AUX.txt",
        "...",
        HOSTILE,
    ):

        def make(folder: Path, name: str = name) -> list[Command]:
            task(folder, name=name)
            text = yaml.safe_dump(
                {"name": name, "adapter": "scripted", "settings": {"default": HOSTILE}}
            )
            (folder / "model.yaml").write_text(text)
            asked = [*_ASK]
            asked[asked.index("most-common")] = "./model.yaml"
            return [asked, *(_READ if name in ("org/model-7b", HOSTILE) else _READ[:1])]

        yield Stranger(f"a name: {name[:20]!r}", make, harmless=True)


def _code() -> Iterator[Stranger]:
    keys = {
        "scorer": {"score": {"scorer": "os:system", "options": {"command": _RUN}}},
        "clean-up": {"score": {"scorer": "exact_match", "clean": ["subprocess:getoutput"]}},
        "reader": {
            "data": {"reader": "os:system", "options": {"command": _RUN}, "splits": {"test": {}}}
        },
        "chooser": {
            "demonstrations": {"chooser": "subprocess:getoutput", "options": {"cmd": _RUN}}
        },
        "kind of output": {"output": {"kind": "os:system"}},
    }
    for name, changes in keys.items():

        def make(folder: Path, changes: dict[str, Any] = changes) -> list[Command]:
            task(folder, **changes)
            return [_DRY, _ASK, ["check", "--task", "./task.yaml"]]

        yield Stranger(f"code as a {name}", make)

    def model(folder: Path) -> list[Command]:
        spec = {"name": "m", "adapter": "os:system", "settings": {"command": _RUN}}
        (folder / "model.yaml").write_text(yaml.safe_dump(spec))
        task(folder)
        return [["run", "--task", "./task.yaml", "--model", "./model.yaml", "--dry-run"]]

    yield Stranger("code as an adapter", model)


def _rows() -> Iterator[Stranger]:
    rows = {
        "hostile texts": {"id": HOSTILE, "question": HOSTILE, "answer": HOSTILE},
        "a path upwards": {
            "id": "1",
            "question": "q",
            "answer": "a",
            "image": "../../../etc/passwd",
        },
        "a path from the root": {"id": "1", "question": "q", "answer": "a", "image": "/etc/passwd"},
        "a NUL in a path": {"id": "1", "question": "q", "answer": "a", "image": "a\0.png"},
        "a long path": {"id": "1", "question": "q", "answer": "a", "image": "a" * 5000},
        "a device": {"id": "1", "question": "q", "answer": "a", "image": "zero"},
    }
    for name, row in rows.items():

        def make(folder: Path, row: dict[str, Any] = row) -> list[Command]:
            task(folder, [row])
            with_image = "image" in row
            if with_image:
                (folder / "zero").symlink_to("/dev/zero")
                ask = {"plain": {"ask": "{image}{question}"}}
                task(folder, [row], protocols=ask)
            return [_ASK, *([] if with_image else _READ), ["show", "--task", "./task.yaml"]]

        yield Stranger(f"a row: {name}", make, harmless=row["question"] == HOSTILE)

    def deep(folder: Path) -> list[Command]:
        task(folder)
        (folder / "rows.jsonl").write_text('{"id": ' + "[" * 300_000 + "\n")
        return [_ASK]

    yield Stranger("a row: 300,000 brackets", deep)


def png(width: int, height: int, colour: int = 6) -> bytes:
    """Zeros, compressed a thousand times over. colour: 6 = RGBA, 2 = RGB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    packer, packed = zlib.compressobj(9), b""
    row = bytes(1 + width * (4 if colour == 6 else 3))
    for _ in range(height):
        packed += packer.compress(row)
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    end = chunk(b"IDAT", packed + packer.flush()) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + end


def _images() -> Iterator[Stranger]:
    def made(data: Callable[[], bytes]) -> Callable[[Path], list[Command]]:
        def make(folder: Path) -> list[Command]:
            row = {"id": "1", "question": "q", "answer": "a", "image": "a.png"}
            task(folder, [row], protocols={"plain": {"ask": "{image}{question}"}})
            (folder / "a.png").write_bytes(data())
            return [_ASK, ["report", "--file", "report.html"]]

        return make

    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n"
    postscript += f"(%pipe%{_RUN}) (w) file closefile\n".encode()
    yield Stranger("an image: 13,000 x 13,000 in RGBA", made(lambda: png(13_000, 13_000)))
    yield Stranger("an image: 300,000 x 300,000", made(lambda: png(300_000, 1)[:33] + b"\0" * 99))
    yield Stranger("an image: PostScript", made(lambda: postscript))
    yield Stranger("an image: nothing", made(lambda: b""))
    yield Stranger("an image: a page of HTML", made(lambda: HOSTILE.encode()))


def _pickles() -> Iterator[Stranger]:
    shared = b"]q\0(]q\1(" + b"N" * 6000 + b"e" + b"h\1" * 3000 + b"e."
    datas = {
        "a place beyond its end": b"\x80\x04Nr\xff\xff\xff\x7f.",
        "a length beyond its end": b"B\xff\xff\xff\x7f.",
        "one list, 3,000 times": shared,
        "5,000 lists": b"]" * 5000 + b"a" * 4999 + b".",
        "code": f"cos\nsystem\n(S'{_RUN}'\ntR.".encode(),
        "something else": pickle.dumps({"a": [1, 2, 3]}),
    }
    for name, data in datas.items():

        def make(folder: Path, data: bytes = data) -> list[Command]:
            (folder / "refs.p").write_bytes(data)
            (folder / "images").mkdir()
            (folder / "instances.json").write_text('{"images": [], "annotations": []}')
            split = {
                "refs": "refs.p",
                "instances": "instances.json",
                "part": "val",
                "images": "images",
            }
            task(folder, data={"reader": "refcoco", "splits": {"test": split}})
            return [_ASK]

        yield Stranger(f"a pickle: {name}", make)


def _secrets() -> Iterator[Stranger]:
    paths = (
        "extra.token",
        "extra.extra_headers.Authorization",
        "extra.metadata.api_key",
        "model",
        "layout",
    )
    for path in paths:

        def make(folder: Path, path: str = path) -> list[Command]:
            task(folder)
            given = ["model.settings.model=m", f"model.settings.{path}={KEY}"]
            model = ["--model", "openai-compatible", "--set", *given]
            return [["run", "--task", "./task.yaml", *model, "--out", "out/runs", "--dry-run"]]

        yield Stranger(f"a key in {path}", make)


def _imports() -> Iterator[Stranger]:
    texts = {
        "300,000 brackets": "[" * 300_000,
        "5,000 digits": '[{"id": "1", "answer": ' + "9" * 5000 + "}]",
        "hostile texts": json.dumps([{"id": "1", "answer": HOSTILE}]),
    }
    for name, text in texts.items():

        def make(folder: Path, text: str = text) -> list[Command]:
            task(folder)
            (folder / "answers.json").write_text(text)
            given = ["answers.json", "--task", "./task.yaml", "--shots", "0", "--model", HOSTILE]
            return [["import", *given, "--out", "out/runs"], *_READ]

        yield Stranger(f"answers: {name}", make)


def faults(base: Path, outcomes: list[Outcome]) -> list[str]:
    """What must not have happened, in words; base: the folder that holds the working directory `work`."""
    found = []
    for outcome in outcomes:
        shown = " ".join(outcome.command)[:60]
        if outcome.code not in GOOD_CODES:
            found.append(f"{shown}: exit code {outcome.code}: {outcome.printed[-300:]}")
        if "Traceback (most recent call last)" in outcome.printed:
            found.append(f"{shown}: a traceback: {outcome.printed[-300:]}")
        if any(letter in outcome.printed for letter in "\x1b\x07\0"):
            found.append(f"{shown}: a control character on the terminal")
        if KEY in outcome.printed:
            found.append(f"{shown}: the key on the terminal")
        if outcome.seconds > MOST_SECONDS:
            found.append(f"{shown}: {outcome.seconds:.0f} s")
        if outcome.memory > MOST_MEMORY:
            found.append(f"{shown}: {outcome.memory / (1 << 20):.0f} MiB")
    work = base / "work"
    if (work / "ran").exists():
        found.append("code of the file has run")
    beside = {path.name for path in base.iterdir()} - {"work", "cache"}
    if beside:
        found.append(f"left the working directory: {sorted(beside)}")
    runs = work / "out"
    if runs.is_dir() and (stray := {path.name for path in runs.iterdir()} - {"runs"}):
        found.append(f"left --out: {sorted(stray)}")
    for path in runs.rglob("*"):
        if path.is_file() and KEY.encode() in path.read_bytes():
            found.append(f"the key is in {path.name}")
    found += [
        f"{page.name} holds markup of somebody else's"
        for page in work.glob("*.html")
        if "<img src=x" in page.read_text(encoding="utf-8")
    ]
    return found


def try_apart(stranger: Stranger, base: Path) -> list[Outcome]:
    """Runs each of its commands as a program of its own below the empty folder `base`."""
    work = base / "work"
    work.mkdir()
    environment = {
        **os.environ,
        "EMU2EVAL_CACHE": str(base / "cache"),
        "EMU2EVAL_RUNS": "out/runs",
        "EMU2EVAL_DATA": ".",
        "PYTHONIOENCODING": "utf-8",
    }
    found = []
    for command in stranger.make(work):
        began = time.monotonic()
        with tempfile.TemporaryFile() as printed:
            program = subprocess.Popen(
                [sys.executable, "-m", "emu2eval", *command],
                cwd=work,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
            )
            code, memory = _ended(program, began + 3 * MOST_SECONDS)
            printed.seek(0)
            text = printed.read().decode(errors="replace")
        found.append(Outcome(command, code, text, time.monotonic() - began, memory))
    return found


def _ended(program: subprocess.Popen[bytes], until: float) -> tuple[int, int]:
    """(exit code, bytes of memory at its peak); a program that is still there at that time is killed."""
    while True:
        process, status, used = os.wait4(program.pid, os.WNOHANG)
        if process:
            program.returncode = os.waitstatus_to_exitcode(status)
            return program.returncode, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        if time.monotonic() > until:
            program.kill()
        time.sleep(0.01)
