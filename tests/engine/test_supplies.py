"""What parts lack is fetched once, or told together with what the others lack, before anything is asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from emu2eval import (
    Adapter,
    Chooser,
    Demonstration,
    Limits,
    ModelError,
    Request,
    Response,
    Sample,
    Samples,
    Score,
    Scorer,
    Settings,
    UserError,
    evaluate,
)
from emu2eval.testing import small_task


class Where(Settings):
    """folder: of the weights; network: they can be fetched."""

    folder: str
    network: bool = True


class Needy:
    """Lacks a file until it was fetched, and notes what is called."""

    def __init__(self, name: str, where: Where):
        self.file = Path(where.folder) / name
        self.log = Path(where.folder) / "log"
        self.network = where.network

    def lacks(self) -> list[UserError]:
        missing = ModelError(f"{self.file.name} is not here", hint=f"get {self.file.name}")
        return [] if self.file.exists() else [missing]

    def fetch(self) -> None:
        if not self.network:
            raise ModelError(f"no network for {self.file.name}")
        with self.log.open("a") as log:
            log.write(f"fetched {self.file.name}\n")
        self.file.touch()


class NeedyModel(Needy, Adapter):
    limits = Limits(frozenset({"text"}), batch=99)

    def __init__(self, settings: Where):
        super().__init__("weights", settings)

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        return [Response(text="red") for _ in requests]


class NeedyScorer(Needy, Scorer):
    metric = "needy"

    def __init__(self, settings: Where):
        super().__init__("words", settings)

    def score(self, sample: Sample, response: Response) -> Score:
        return Score(1.0)


class NeedyChooser(Needy, Chooser):
    def __init__(self, pool: Samples, seed: int, settings: Where):
        Chooser.__init__(self, pool, seed)
        Needy.__init__(self, "eyes", settings)

    def ranked(self, query: Sample, trial: int) -> Any:
        return (Demonstration(sample, "the first") for sample in self.pool)


@pytest.fixture
def files(tmp_path: Path) -> Any:
    """The task and the model whose parts all lack something."""

    def write(**options: Any) -> tuple[Path, Path]:
        given = {"folder": str(tmp_path), **options}
        task = small_task(
            tmp_path,
            score={"scorer": f"{__name__}:NeedyScorer", "options": given},
            demonstrations={
                "split": "train",
                "chooser": f"{__name__}:NeedyChooser",
                "options": given,
            },
        )
        model = tmp_path / "needy.yaml"
        spec = {"name": "needy", "adapter": f"{__name__}:NeedyModel", "settings": given}
        model.write_text(yaml.safe_dump(spec))
        return task, model

    return write


def test_a_run_fetches_what_is_missing_once(files: Any, tmp_path: Path) -> None:
    task, model = files()
    for _ in range(2):
        (result,) = evaluate(task, model, shots=1, out=tmp_path / "runs")
        assert result.rows[0].value == 100
    fetched = (tmp_path / "log").read_text().split("\n")
    assert sorted(fetched) == ["", "fetched eyes", "fetched weights", "fetched words"]


def test_what_cannot_be_fetched_is_told_together(files: Any, tmp_path: Path) -> None:
    task, model = files(network=False)
    with pytest.raises(UserError) as caught:
        evaluate(task, model, shots=1, out=tmp_path / "runs")
    assert [part.what for part in caught.value.parts] == [
        "no network for weights",
        "weights is not here",
        "no network for words",
        "words is not here",
    ]
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_fetches_nothing_and_says_what_the_model_lacks(
    files: Any, tmp_path: Path, program: Any
) -> None:
    task, model = files()
    command = ("run", "--task", str(task), "--model", str(model), "--shots", "1", "--dry-run")
    code, _, errors = program(*command)
    assert (code, "weights is not here" in errors) == (2, True)
    assert not (tmp_path / "log").exists()
    (tmp_path / "weights").touch()
    (tmp_path / "eyes").touch()
    code, printed, _ = program(*command)
    assert (code, "no requests are sent" in printed) == (0, True)
