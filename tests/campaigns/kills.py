"""kill -9 at random moments: nothing lost, nothing stored asked again, the same bytes in the end."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import world
from .program import call, working_in

BATCH = 2
DELAY = 0.01
LOG = "asked.log"
QUERIES = 10


@dataclass(frozen=True)
class Story:
    """A command that was killed so often and then left alone. fault: what is not as it should be."""

    name: str
    kills: int
    fault: str | None = None


def run(folder: Path, kills: int, seed: int) -> list[Story]:
    """Stories until there were so many kills. Forks, so the caller must have no threads of its own."""
    world.write(folder, queries=QUERIES, pool=6, delay=DELAY, log=LOG)
    found: list[Story] = []
    chance = random.Random(seed)
    with working_in(folder):
        for kind in world.KINDS:
            ended = call(*kind.whole)
            assert ended.kind == "fine", (kind, ended)
        shutil.copytree(folder / "runs", folder / "whole")
        whole = {kind: world.run_folder(folder, kind) for kind in world.KINDS}
        commands = [(kind, kind.command) for kind in world.KINDS]
        number = 0
        while sum(each.kills for each in found) < kills:
            kind, command = commands[number % len(commands)]
            expected = (folder / "whole" / whole[kind].relative_to(folder / "runs")).resolve()
            found.append(_run_killed(kind, command, expected, chance))
            found.append(_verb_killed(kind, expected, chance))
            if kind.name == "rices":
                found.append(_features_killed(kind, expected, chance))
            number += 1
    return found


def table(found: Sequence[Story]) -> Counter[tuple[str, str]]:
    counted: Counter[tuple[str, str]] = Counter()
    for each in found:
        counted[each.name, "kills"] += each.kills
        counted[each.name, "faults"] += each.fault is not None
    return counted


def _run_killed(
    kind: world.Kind, command: tuple[str, ...], expected: Path, chance: random.Random
) -> Story:
    """A run, from nothing to its end."""
    out = Path("killed")
    for used in (out, Path("cache")):
        shutil.rmtree(used, ignore_errors=True)
    folder = out / expected.name
    kills, limit = 0, chance.randint(2, 6)
    while True:
        before = _stored(folder)
        Path(LOG).write_bytes(b"")
        code, killed = _forked(
            (*command, "--out", str(out)), _moment(kind, chance) if kills < limit else None
        )
        again = before & set(Path(LOG).read_text().split())
        if again:
            return Story(kind.name, kills, f"{len(again)} stored answers were asked again")
        if lost := before - _stored(folder):
            return Story(kind.name, kills, f"{len(lost)} stored answers were lost")
        kills += killed
        if not killed:
            break
    return Story(kind.name, kills, _wrong(code, folder, expected))


def _verb_killed(kind: world.Kind, expected: Path, chance: random.Random) -> Story:
    """Something that is made of a finished run."""
    folder, kept = Path("killed") / expected.name, Path("kept")
    shutil.rmtree(folder.parent, ignore_errors=True)
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(expected, folder)
    trust = ("--trust",) if kind.name == "images" else ()
    stored = str(folder)
    verbs: list[tuple[str, ...]] = [
        ("score", stored, *trust),
        ("report", stored, "--file", "killed/page.html", *trust),
        ("export", stored, "--file", "killed/runs.jsonl"),
        ("curves", stored, "--file", "killed/curves.svg"),
        ("table", stored, "--groups"),
        ("show", "--run", stored, *trust),
        ("explain", stored, *trust),
        ("compare", stored, stored),
        ("diagnose", stored),
        ("submit", stored, "--file", "killed/answers.json", *trust),
    ]
    if kind.name == "images":
        verbs.append(("sheet", stored, "--file", "killed/sheet.png", *trust))
    if kind.name != "import":
        verbs.append(("keep", stored, "--into", str(kept)))
    verb = chance.choice(verbs)
    # Some refuse some kinds: of them, too, nothing may be left behind.
    whole, _ = _forked(verb, None)
    kills, limit = 0, chance.randint(1, 3)
    while True:
        code, killed = _forked(verb, chance.uniform(0, 0.12) if kills < limit else None)
        kills += killed
        if not killed:
            break
    fault = _wrong(code - whole, folder, expected)
    if (
        fault is None
        and verb[0] == "keep"
        and not (kept / folder.name / "scores.jsonl.gz").is_file()
    ):
        fault = "nothing was kept"
    return Story(verb[0], kills, fault)


def _features_killed(kind: world.Kind, expected: Path, chance: random.Random) -> Story:
    """Features computed ahead: a run then finds them whole."""
    for used in (Path("killed"), Path("cache")):
        shutil.rmtree(used, ignore_errors=True)
    kills, limit = 0, chance.randint(2, 6)
    while True:
        moment = chance.uniform(0, 0.3) if kills < limit else None
        code, killed = _forked(("features", "-t", "rices.yaml"), moment)
        kills += killed
        if not killed:
            break
    if not code:
        code, _ = _forked((*kind.command, "--out", "killed"), None)
    fault = _wrong(code, Path("killed") / expected.name, expected)
    if fault is None and (left := [path.name for path in Path("cache").rglob(".*.*")]):
        fault = f"left behind: {left}"
    return Story("features", kills, fault)


def _wrong(code: int, folder: Path, expected: Path) -> str | None:
    if code:
        return f"exit code {code}"
    if (folder / "scores.jsonl").read_bytes() != (expected / "scores.jsonl").read_bytes():
        return "scores.jsonl has other bytes"
    if left := [path.name for path in folder.parent.rglob(".*.*")]:
        return f"left behind: {left}"
    return None


def _moment(kind: world.Kind, chance: random.Random) -> float:
    """Seconds from the start, within what a run takes."""
    return chance.uniform(0, 0.15 if kind.name == "import" else 0.5)


def _forked(arguments: tuple[str, ...], kill_after: float | None) -> tuple[int, bool]:
    """(exit code, whether it was killed). A fork has imported everything, so kills hit the work."""
    child = os.fork()
    if not child:
        code = 99
        try:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, 1)
            os.dup2(nothing, 2)
            ended = call(*arguments)
            code = ended.code if ended.code is not None else 98
        finally:
            os._exit(code)
    if kill_after is not None:
        limit = time.monotonic() + kill_after
        while time.monotonic() < limit:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status), False
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code, code == -signal.SIGKILL


def _stored(folder: Path) -> set[str]:
    """The keys of every whole answer of a run and of its judges."""
    sys.stdout.flush()
    found = set()
    for path in (folder / "responses.jsonl", *folder.glob("judge/*/responses.jsonl")):
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        found |= {json.loads(line)["key"] for line in lines}
    return found
