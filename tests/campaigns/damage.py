"""Single damaged bytes in the stored files of finished runs: healed by the same command, or told."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from . import world
from .program import Ended, call, working_in

IGNORED = ("lock", "encoder.json")
"""Nobody reads what stands in them."""


@dataclass(frozen=True)
class Damage:
    """outcome: told, healed, "unseen" (nothing that is shown or scored hangs on it), or a fault."""

    file: str
    place: int
    outcome: str
    note: str = ""


def run(folder: Path, count: int, seed: int) -> list[Damage]:
    """Damages a byte at a time in the runs and features of a user's folder, which is made here.

    After each, every verb that reads the run must say so or show what it showed before, and the same command
    must then give the bytes of scores.jsonl that it gave before.
    """
    world.make(folder)
    pristine = folder.with_name(f"{folder.name}-whole")
    shutil.copytree(folder, pristine)
    chance = random.Random(seed)
    files = [
        path.relative_to(folder)
        for kind in world.KINDS
        for path in sorted((folder / kind.out).rglob("*"))
        if path.is_file() and path.name not in IGNORED
    ]
    files += [p.relative_to(folder) for p in sorted((folder / "cache").rglob("*.safetensors"))]
    before: dict[tuple[str, ...], str] = {}
    found = []
    with working_in(folder):
        for number in range(count):
            file = files[number % len(files)]
            found.append(_one(folder, pristine, file, chance, before))
    return found


def table(found: list[Damage]) -> Counter[tuple[str, str]]:
    """How many of each outcome, by the name of the file's kind."""
    return Counter((_kind(Path(each.file)), each.outcome) for each in found)


def faults(found: list[Damage]) -> list[Damage]:
    return [each for each in found if each.outcome not in ("told", "healed", "unseen")]


def _kind(file: Path) -> str:
    return file.name if file.suffix.startswith(".json") else f"*{file.suffix}"


def _one(
    folder: Path,
    pristine: Path,
    file: Path,
    chance: random.Random,
    before: dict[tuple[str, ...], str],
) -> Damage:
    kind = next((k for k in world.KINDS if file.is_relative_to(k.out)), None)
    # Features are read by the runs whose chooser looks for likeness.
    kind = kind or next(k for k in world.KINDS if k.name == "rices")
    stored = world.run_folder(pristine, kind).relative_to(pristine)
    verbs = _verbs(kind, stored)
    for verb in verbs:
        if verb not in before:
            before[verb] = _shown(call(*verb))
            _restore(folder, pristine, kind)
    data = bytearray((folder / file).read_bytes())
    place = chance.randrange(len(data))
    data[place] ^= 1 << chance.randrange(8)
    (folder / file).write_bytes(bytes(data))
    told = False
    reading = chance.sample(verbs, min(3, len(verbs)))
    for verb in reading:
        ended = call(*verb)
        if ended.kind not in ("fine", "told"):
            return Damage(str(file), place, ended.kind, f"{verb[0]}: {ended.fault}")
        if ended.kind == "told" or "damaged" in ended.err or "cannot be" in ended.out:
            told = True
        elif _shown(ended) != before[verb] and "no answer yet" not in ended.out:
            _restore(folder, pristine, kind)
            return Damage(str(file), place, "silent", " ".join(verb))
        if verb[0] in ("score", "keep"):
            _restore(folder, pristine, kind)
            (folder / file).write_bytes(bytes(data))
    ended = call(*kind.whole)
    if ended.kind == "traceback" or ended.kind == "hang":
        return Damage(str(file), place, ended.kind, f"again: {ended.fault}")
    again = folder / stored / "scores.jsonl"
    same = (
        again.is_file() and again.read_bytes() == (pristine / stored / "scores.jsonl").read_bytes()
    )
    if ended.kind == "fine" and same:
        outcome = "healed" if told or (folder / file).read_bytes() != bytes(data) else "unseen"
    else:
        outcome = "told" if ended.kind == "told" else "silent"
    note = "" if outcome != "silent" else f"the same command: {ended.err[-300:]}"
    _restore(folder, pristine, kind)
    return Damage(str(file), place, outcome, note)


def _verbs(kind: world.Kind, stored: Path) -> list[tuple[str, ...]]:
    run, trust = str(stored), ("--trust",) if kind.name == "images" else ()
    verbs: list[tuple[str, ...]] = [
        ("table", run, "--format", "csv"),
        ("ls", "runs", "--out", kind.out),
        ("score", run, "--format", "csv"),
        ("export", run),
        ("show", "--run", run, "--index", "1"),
        ("compare", run, run, "--format", "csv"),
        ("explain", run),
        ("report", run, "--file", "page.html"),
    ]
    if kind.name == "images":
        verbs.append(("sheet", run, "--file", "sheet.png"))
    if kind.name != "import":
        verbs.append(("keep", run, "--into", "kept"))
    return [(*verb, *trust) for verb in verbs]


def _shown(ended: Ended) -> str:
    return f"{ended.code}\n{ended.out}"


def _restore(folder: Path, pristine: Path, kind: world.Kind) -> None:
    for part in (kind.out, "cache"):
        shutil.rmtree(folder / part, ignore_errors=True)
        if (pristine / part).exists():
            shutil.copytree(pristine / part, folder / part)
