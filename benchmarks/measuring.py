"""What the benchmarks share: CPU time of ways that take turns, their ratios, tables, headlines, a small task.

Times are CPU seconds (user and system, of every thread and of child processes that have ended), so that other
work on the machine counts little; two ways of doing something are compared by turns within one process.

    from measuring import arguments, headline, in_turn
    found = in_turn({"plain": loop, "here": harness}, repeats=5)
    headline("planning", "Qwen2.5-VL at 8 shots", found.ratio("plain", "here"), wanted=6.0)
"""

from __future__ import annotations

import argparse
import json
import os
import resource
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

HEADLINES = "EMU2EVAL_HEADLINES"
"""The environment variable with the file to which headlines go, for the table at the end of `make bench`."""


def cpu() -> float:
    """CPU seconds so far: this process, its threads, and its children that have ended."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    others = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    started = cpu()
    work()
    return cpu() - started


@dataclass(frozen=True)
class Turns:
    """CPU seconds of each way in each turn, by the way's name."""

    times: Mapping[str, Sequence[float]]

    def median(self, name: str) -> float:
        return median(self.times[name])

    def ratio(self, slow: str, quick: str) -> float:
        """How many times as long the first takes: the median over the turns."""
        pairs = zip(self.times[slow], self.times[quick], strict=True)
        return median(a / max(b, 1e-9) for a, b in pairs)


def in_turn(ways: Mapping[str, Callable[[], object]], repeats: int = 5, warm: int = 1) -> Turns:
    """Times ways against each other: every way once a turn. warm: turns before those that count."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(warm + repeats):
        # Every second turn backwards: whoever comes first in a turn finds colder caches.
        for name in list(ways)[:: -1 if turn % 2 else 1]:
            taken = seconds(ways[name])
            if turn >= warm:
                times[name].append(taken)
    return Turns(times)


class Clock:
    """Calls of a method, and CPU seconds inside of it, while the block lasts."""

    def __init__(self, owner: Any, name: str):
        self.owner, self.name, self.seconds, self.calls = owner, name, 0.0, 0
        self.own = getattr(owner, name)

    def __enter__(self) -> Clock:
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = cpu()
            self.calls += 1
            try:
                return self.own(*args, **kwargs)
            finally:
                self.seconds += cpu() - started

        setattr(self.owner, self.name, timed)
        return self

    def __exit__(self, *_: object) -> None:
        setattr(self.owner, self.name, self.own)


# -- what is printed -------------------------------------------------------------------------------


def arguments(text: str | None) -> argparse.ArgumentParser:
    """A parser with --quick: sizes of a few seconds, for a look and for the tests."""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, a few seconds")
    return parser


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table: the first column to the left, the others to the right."""
    texts = [list(head), *([_shown(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row in texts:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        cells[0] = row[0].ljust(widths[0])
        print("  ".join(cells).rstrip(), flush=True)


def _shown(cell: object) -> str:
    return f"{cell:,.2f}" if isinstance(cell, float) else str(cell)


def headline(
    promise: str, case: str, ratio: float, wanted: float | None = None, *, most: bool = False
) -> None:
    """Prints one ratio that a promise rests on, and keeps it for the closing table of `make bench`.

    wanted: what was promised; most: it is an upper bound, such as for the distance to the best loop.
    """
    line = {"promise": promise, "case": case, "ratio": ratio, "wanted": wanted, "most": most}
    print(f"{promise}, {case}: {ratio:.2f}x{_bound(wanted, most)}", flush=True)
    if kept := os.environ.get(HEADLINES):
        with Path(kept).open("a") as file:
            file.write(json.dumps(line) + "\n")


def headlines(file: Path) -> None:
    """Prints the closing table."""
    found = [json.loads(line) for line in file.read_text().splitlines()]
    table(
        ("promise", "case", "ratio", "wanted"),
        [
            (
                each["promise"],
                each["case"],
                f"{each['ratio']:.2f}x",
                _bound(each["wanted"], each["most"]).strip(" ()"),
            )
            for each in found
        ],
    )


def _bound(wanted: float | None, most: bool) -> str:
    return "" if wanted is None else f" ({'at most' if most else 'at least'} {wanted:g})"


# -- a small task ----------------------------------------------------------------------------------


def squares(folder: Path, queries: int, pool: int = 64, side: int = 64) -> Path:
    """The file of a task with drawn squares: so many queries, `pool` to draw demonstrations from, no two
    images alike."""
    from PIL import Image

    folder.mkdir(parents=True)
    for split, count in (("test", queries), ("train", pool)):
        with (folder / f"{split}.jsonl").open("w") as file:
            for i in range(count):
                image = Image.new("RGB", (side, side), (i * 7 % 256, i * 31 % 256, 90))
                image.putpixel((0, 0), (i % 256, i // 256 % 256, len(split)))
                image.putpixel((1, 0), (i // 65536, 0, 0))
                image.save(folder / f"{split}{i}.png")
                question = f"what colour is square {i}?" + " please" * (i % 5)
                row = {"id": f"{split}{i}", "image": f"{split}{i}.png", "question": question}
                answer = ("red", "green", "blue")[i % 3]
                file.write(json.dumps({**row, "answer": answer}) + "\n")
    return task_file(folder, "squares")


def task_file(folder: Path, name: str) -> Path:
    """The file of a task over a folder's test.jsonl and train.jsonl: rows of id, image, question, answer."""
    splits = {"test": {"files": "test.jsonl"}, "train": {"files": "train.jsonl"}}
    spec = {
        "name": name, "title": name.capitalize(), "split": "test", "protocol": "plain",
        "data": {"reader": "table", "root": ".", "splits": splits},
        "demonstrations": {"split": "train"}, "score": {"scorer": "exact_match"},
        "protocols": {"plain": {"ask": "{image}{question} Answer:"}},
    }  # fmt: skip
    path = folder / "task.json"
    path.write_text(json.dumps(spec))
    return path


def model_file(path: Path, adapter: str, **settings: Any) -> Path:
    """A model's file, named after itself."""
    path.write_text(json.dumps({"name": path.stem, "adapter": adapter, "settings": settings}))
    return path
