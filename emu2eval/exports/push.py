"""Runs as a dataset of the Hugging Face hub: what would go there is laid out first, then uploaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml

from emu2eval.errors import ConfigError, MissingExtra, StoreError, UserError, printable
from emu2eval.exports import lm_eval
from emu2eval.exports.results import as_json, results
from emu2eval.exports.stored import StoredRows, read, write
from emu2eval.runs.files import explained
from emu2eval.runs.record import RECORD
from emu2eval.runs.scores import REPORT, SCORES
from emu2eval.runs.store import ANSWERS, IMAGES
from emu2eval.spec.checkpoints import HUB_ID
from emu2eval.spec.secrets import scrubbed

KEPT = (RECORD, REPORT, SCORES, ANSWERS)
"""Of a run's folder. They name samples by id alone: questions and images of the benchmark are not there."""


@dataclass(frozen=True)
class PackedRuns:
    """What would be uploaded, in a folder. drawn: images that models made; texts: questions and references of
    the benchmarks; paths: of this machine, that the records name; notes: what could not be put in."""

    folder: Path
    runs: int
    drawn: int
    texts: bool
    paths: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def files(self) -> list[tuple[str, int]]:
        """(path within the dataset, bytes), by path."""
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return sorted((p.relative_to(self.folder).as_posix(), p.stat().st_size) for p in found)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(size for _, size in self.files())


def pack(
    folders: Sequence[Path],
    into: Path,
    repo: str,
    table: str,
    *,
    drawn: bool = False,
    texts: bool = False,
) -> PackedRuns:
    """Lays out the dataset of these runs in an empty folder. table: of the card, as Markdown.

    drawn: with the images that models made. texts: with questions, prompts and references, in the form of
    lm-evaluation-harness. Raises StoreError where no run is scored, or a file would give a key away.
    """
    if not HUB_ID.fullmatch(repo):
        raise ConfigError(
            f"{repo!r} is not a dataset name on the hub",
            hint="use organization/name, such as me/my-runs",
        )
    found = read(folders)
    runs = found.read
    if not runs:
        raise StoreError("no scored runs to upload", hint="emu2eval ls runs")
    images = 0
    for run in runs:
        target = into / "runs" / run.folder.name
        with explained(target):
            target.mkdir(parents=True)
            for name in KEPT:
                if (run.folder / name).is_file():
                    shutil.copyfile(run.folder / name, target / name)
            for judge in run.folder.glob("judge/*/*.json*"):
                _copy(judge, target / judge.relative_to(run.folder))
            for image in run.folder.glob(f"{IMAGES}/*.png") if drawn else ():
                _copy(image, target / image.relative_to(run.folder))
                images += 1
    write(as_json(runs), into / "results.json")
    write("".join(_lines(runs)), into / "rows.jsonl")
    notes = [str(error.what) for error in found.lost]
    if texts:
        said = lm_eval.export(runs, into / "lm-eval")
        notes += [line for line in said if not line.startswith("wrote ")]
    write(_card(repo, runs, table, drawn=drawn, texts=texts), into / "README.md")
    for path in into.rglob("*.json"):
        if scrubbed(text := path.read_text(encoding="utf-8")) != text:
            raise StoreError(
                "this file contains what looks like an API key, so nothing is uploaded",
                where=path.relative_to(into),
                hint="remove it from the model's settings, and run again",
            )
    return PackedRuns(into, len(runs), images, texts, tuple(_paths(runs)), tuple(notes))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _lines(runs: Sequence[StoredRows]) -> Iterator[str]:
    """Every number as a flat line, for the hub's viewer."""
    for run in results(runs).runs:
        told = msgspec.to_builtins(run)
        about = {
            key: told[key]
            for key in ("run", "label", "model", "task", "split", "protocol", "shots")
        }
        for number in told["numbers"]:
            number["notes"] = "; ".join(number["notes"])
            yield msgspec.json.encode({**about, "seed": run.seed, **number}).decode() + "\n"


def _paths(runs: Sequence[StoredRows]) -> Iterator[str]:
    found: dict[str, None] = {}
    for run in runs:
        values = [run.record.task.file, *run.record.model.settings.values()]
        for value in values:
            if isinstance(value, str) and Path(value).is_absolute():
                found[value] = None
    yield from found


def _card(repo: str, runs: Sequence[StoredRows], table: str, *, drawn: bool, texts: bool) -> str:
    front: dict[str, Any] = {
        "pretty_name": repo.partition("/")[2],
        "tags": ["emu2eval", "evaluation-results"],
        "configs": [{"config_name": "rows", "data_files": "rows.jsonl"}],
    }
    sources = dict.fromkeys(
        f"{run.record.task.name}: {run.record.task.spec.get('licence') or 'see its source'}"
        for run in runs
    )
    held = [
        "- `results.json`: every number with its unit, interval and failures (its schema: `emu2eval export "
        "--schema`); `rows.jsonl`: the same, one number per line",
        "- `runs/`: the runs: answers and scores by sample id, and the settings",
        "- `runs/*/images/`: generated images" if drawn else "- no images",
        "- `lm-eval/`: questions, prompts and references of the benchmarks, under their own licences:"
        if texts
        else "- no questions, references or images of the benchmarks, which have their own licences:",
        *(f"    - {line}" for line in sources),
    ]
    return (
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# {repo}\n\n"
        f"Few-shot evaluations by emu2eval, {len(runs):,} runs.\n\n{table}\n## Contents\n\n"
        + "".join(f"{line}\n" for line in held)
    )


def upload(packed: PackedRuns, repo: str, *, public: bool = False) -> str:
    """Uploads them to a dataset, made if it is not there, private unless `public`; returns its address.

    Raises ConfigError where the dataset is there and public, and `public` was not said; MissingExtra;
    UserError with what the hub says.
    """
    lacks = MissingExtra.of(["huggingface_hub"], "hf", why="push")
    if lacks:
        raise lacks[0]
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    api = HfApi(token=os.environ.get("HF_TOKEN"))
    try:
        try:
            known = api.repo_info(repo, repo_type="dataset")
        except RepositoryNotFoundError:
            known = None
        if known is not None and not known.private and not public:
            raise ConfigError(
                f"the dataset {repo} already exists and is public",
                hint="choose another name (created as private), or use --public",
            )
        if known is None:
            api.create_repo(repo, repo_type="dataset", private=not public)
        api.upload_folder(
            repo_id=repo,
            repo_type="dataset",
            folder_path=packed.folder,
            commit_message=f"{packed.runs} runs of emu2eval",
        )
    except UserError:
        raise
    except Exception as error:  # the hub's client raises its own, httpx's and the system's
        text = " ".join(str(error).split())[:300]
        raise UserError(
            printable(scrubbed(f"upload to the hub failed: {type(error).__name__}: {text}")),
            where=repo,
            hint="log in with hf auth login, or set an HF_TOKEN with write access; check the connection",
        ) from None
    return f"https://huggingface.co/datasets/{repo}"
