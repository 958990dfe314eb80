"""The chooser `vl-icl` shows what a plain run over the files with Python's `random` shows."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PILImage

from emu2eval import evaluate
from emu2eval.data.load import load_split
from emu2eval.data.samples import Samples
from emu2eval.engine.tasks import opened
from emu2eval.errors import DataError, PlanError
from emu2eval.fewshot.vl_icl import VLICL
from emu2eval.spec.task import load_task
from emu2eval.types import Image, Sample

from ..tasks.layouts import (
    vl_icl_clevr,
    vl_icl_cobsat,
    vl_icl_fast_attr_t2i,
    vl_icl_matching_mi,
    vl_icl_open_mi,
    vl_icl_operator_induction,
)

LAYOUTS = {
    "open_mi": vl_icl_open_mi,
    "operator_induction": vl_icl_operator_induction,
    "clevr": vl_icl_clevr,
    "matching_mi": vl_icl_matching_mi,
    "fast_attr_t2i": vl_icl_fast_attr_t2i,
    "cobsat": vl_icl_cobsat,
}


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for layout in LAYOUTS.values():
        layout.write(tmp_path / "data")
    monkeypatch.setenv("EMU2EVAL_DATA", str(tmp_path / "data"))
    return tmp_path / "data/vl_icl"


def chosen(dataset: str, shots: int, trial: int = 0) -> dict[str, list[tuple[list[str], Any]]]:
    """Query id -> the images and the words of each demonstration, in order."""
    task = load_task(f"vl_icl_{dataset}")
    queries, pool = (load_split(task, split) for split in ("query", "support"))
    chooser = opened(task).chooser(pool, 0)
    return {
        query.id: [_parts(d.sample) for d in chooser.choose(query, shots, trial)]
        for query in queries
    }


def _parts(sample: Sample) -> tuple[list[str], Any]:
    parts = [*sample.images, sample.answer]
    paths = ["/".join(str(p.path).split("/")[-3:]) for p in parts if isinstance(p, Image)]
    words = sample.answer if isinstance(sample.answer, str) else sample.fields["question"]
    return paths, words


def shown(item: dict[str, Any], answer: Any = None) -> tuple[list[str], str]:
    return item["image"], str(item["answer"] if answer is None else answer)


def in_one_go(root: Path, dataset: str, runs: list[int]) -> dict[int, dict[str, list[Any]]]:
    """Every query's demonstrations at every number of shots, the generator seeded once."""
    query, support = (
        json.loads((root / dataset / f"{part}.json").read_text()) for part in ("query", "support")
    )
    rng = random.Random(0)
    found: dict[int, dict[str, list[Any]]] = {}
    for shots in runs:
        for row in query:
            demonstrations: list[Any] = []
            if "classes" in row:
                own = row["answer"] if dataset == "open_mi" else row["task_label"]
                other = rng.choice([name for name in row["classes"] if name != own])
                order = [own, other] if rng.choice([True, False]) else [other, own]
                for turn in range(shots):
                    for name in order:
                        of = row["support"][name]
                        words = f"Generate a {of['captions'][turn]}" if "t2i" in dataset else name
                        demonstrations.append(([of["images"][turn]], words))
            elif dataset == "cobsat":
                which = row["latent"]
                keys = ("task", "latent", which)
                same = [item for item in support if all(item[k] == row[k] for k in keys)]
                drawn = rng.sample(same, shots)
                demonstrations = [([item["image"]], item["question"]) for item in drawn]
            else:
                for item in rng.sample(support, shots):
                    if dataset == "matching_mi":
                        demonstrations += [shown(item["same"]), shown(item["diff"])]
                    elif dataset == "operator_induction":
                        which = {"+": 0, "-": 1, "x": 2}[row["operator"]]
                        demonstrations.append(shown(item, item["answer"][which]))
                    else:
                        demonstrations.append(shown(item))
            found.setdefault(shots, {})[str(row["id"])] = demonstrations
    return found


def test_a_pair_is_shown_as_the_script_shows_it_whatever_its_files_are_called(root: Path) -> None:
    """First the same class, then different ones, though the names would sort the other way round."""
    path = root / "matching_mi/support.json"
    support = json.loads(path.read_text())
    for item in support:
        for kind in ("same", "diff"):
            for place, name in enumerate(item[kind]["image"]):
                folder, _, file = name.rpartition("/")
                item[kind]["image"][place] = f"{folder}/{'z' if kind == 'same' else 'a'}_{file}"
                (root / name).rename(root / item[kind]["image"][place])
    path.write_text(json.dumps(support))
    assert chosen("matching_mi", 2) == in_one_go(root, "matching_mi", [0, 1, 2])[2]
    answers = {
        name: [words for _, words in shown] for name, shown in chosen("matching_mi", 2).items()
    }
    assert set(map(tuple, answers.values())) == {("yes", "no", "yes", "no")}


@pytest.mark.parametrize("dataset", LAYOUTS)
def test_draws_are_those_of_one_run_over_the_files(root: Path, dataset: str) -> None:
    for shots, wanted in in_one_go(root, dataset, [0, 1, 2, 4]).items():
        assert chosen(dataset, shots) == wanted
    # A number that the authors' script does not run by itself is drawn as if asked for alone.
    assert chosen(dataset, 3) == in_one_go(root, dataset, [3])[3]
    if dataset == "open_mi":
        assert chosen(dataset, 5) == in_one_go(root, dataset, [0, 1, 2, 4, 5])[5]


def test_further_trials_are_draws_of_their_own_and_the_same_again() -> None:
    assert chosen("clevr", 4, trial=1) == chosen("clevr", 4, trial=1)
    assert len({str(chosen("clevr", 4, trial=trial)) for trial in range(3)}) == 3


def test_draws_do_not_depend_on_the_limit(make_model: Any, tmp_path: Path) -> None:
    asked = {}
    for limit in (None, 2):
        model = str(make_model(f"robot{limit}", default="1"))
        options = {"shots": [2], "limit": limit, "out": tmp_path / f"runs{limit}"}
        (result,) = evaluate("vl_icl_clevr", model, **options)
        lines = (result.folder / "responses.jsonl").read_text().splitlines()
        asked[limit] = {row["id"]: row["examples"] for row in map(json.loads, lines)}
    assert len(asked[2]) == 2
    assert asked[2].items() <= asked[None].items()


def test_an_image_of_the_query_is_never_shown(root: Path) -> None:
    wanted = chosen("clevr", 2)["0"]
    drawn = root / wanted[0][0][0]
    with PILImage.open(drawn) as image:
        image.save(root / "clevr/query/00000.png")
    drawn.write_bytes((root / "clevr/query/00000.png").read_bytes())
    instead = chosen("clevr", 2)["0"]
    assert wanted[0] not in instead and wanted[1] in instead and len(instead) == 2


def test_ids_that_coincide_in_both_files_are_not_the_same_sample(root: Path) -> None:
    path = root / "clevr/support.json"
    support = json.loads(path.read_text())
    for number, item in enumerate(support):
        item["id"] = number
    path.write_text(json.dumps(support))
    assert chosen("clevr", 4) == in_one_go(root, "clevr", [0, 1, 2, 4])[4]


def test_sets_of_several_sizes_are_drawn_by_the_house(root: Path) -> None:
    """How far the authors' generator would have got depends on every query before."""
    path = root / "cobsat/support.json"
    path.write_text(json.dumps(json.loads(path.read_text())[:-1]))
    two, again = chosen("cobsat", 2), chosen("cobsat", 2)
    assert two == again
    assert {name: len(shown) for name, shown in two.items()} == dict.fromkeys(two, 2)
    four = {name: shown[:2] for name, shown in chosen("cobsat", 3).items()}
    assert four == two


def test_too_few_is_said() -> None:
    with pytest.raises(PlanError, match="only 5 are available"):
        chosen("open_mi", 6)
    with pytest.raises(PlanError, match="only 9 are available"):
        chosen("clevr", 10)


def test_files_that_do_not_belong_together_are_refused(root: Path) -> None:
    task = load_task("vl_icl_operator_induction")
    pool = load_split(task, "support")
    query = json.loads((root / "operator_induction/query.json").read_text())
    query[0]["operator"] = "/"
    (root / "operator_induction/query.json").write_text(json.dumps(query))
    queries: Samples = load_split(task, "query")
    with pytest.raises(DataError, match="the support set has no sample"):
        VLICL(pool, 0).choose(queries[0], 1, 0)


@pytest.mark.parametrize(
    ("dataset", "reply", "value"),
    [
        ("open_mi", "Daku\nThis is a perpo", 50.0),  # two of the four queries
        ("operator_induction", "it is 2. No, 3", 25.0),  # 1 + 1, 2 - 2, 3 x 3, 4 + 4
        ("clevr", "2.", 25.0),
        ("matching_mi", "I think YES", 50.0),
    ],
)
def test_replies_are_read_as_the_authors_read_them(
    make_model: Any, dataset: str, reply: str, value: float
) -> None:
    (result,) = evaluate(f"vl_icl_{dataset}", str(make_model(default=reply)), shots=[1])
    assert result.rows[0].value == value
