"""Every task that has a layout here, on a small data set in the benchmark's own files.

A layout is a module `layouts/<task>.py` with `write(root)`: about four queries and twenty samples to
draw demonstrations from, in every split that the task names, under the data root `root`.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from emu2eval import cli
from emu2eval.engine.tasks import opened
from emu2eval.spec.task import load_task

TASKS = sorted(
    path.stem for path in (Path(__file__).parent / "layouts").glob("*.py") if path.stem[0] != "_"
)
NEEDS_FEATURES = frozenset({"rices"})
"""Choosers that would need a vision model; the tests here draw at random instead."""


def protocols(task: str) -> list[str]:
    return list(load_task(task).spec.protocols)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`task` alone: every task; with `protocol`: every protocol of each; with `other_split`: every split
    but that of the task."""
    wanted = metafunc.fixturenames
    if "task" not in wanted:
        return
    names, cases = ["task"], [[task] for task in TASKS]
    if "protocol" in wanted:
        names, cases = ["task", "protocol"], [[t, p] for t in TASKS for p in protocols(t)]
    elif "other_split" in wanted:
        names = ["task", "other_split"]
        specs = {task: load_task(task).spec for task in TASKS}
        cases = [[t, s] for t, spec in specs.items() for s in spec.data.splits if s != spec.split]
    metafunc.parametrize(names, cases, ids=[".".join(case) for case in cases])


@pytest.fixture(scope="session")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The data root of a task, written when it is first asked for."""
    written: dict[str, Path] = {}

    def root(task: str) -> Path:
        if task not in written:
            written[task] = tmp_path_factory.mktemp(task)
            importlib.import_module(f"{__package__}.layouts.{task}").write(written[task])
        return written[task]

    return root


@pytest.fixture
def root(
    task: str, roots: Callable[[str], Path], _alone: None, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The data root of the task of the test, set as everybody's."""
    folder = roots(task)
    monkeypatch.setenv("EMU2EVAL_DATA", str(folder))
    return folder


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs `emu2eval …` in this process, where torch is imported once; returns what it prints."""

    def run(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["emu2eval", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        assert ended.value.code == 0, printed.err
        return printed.out

    return run


def shots(task: str, *wanted: str) -> list[str]:
    """The numbers of demonstrations that can be asked for; 0 alone where the task refuses any."""
    demonstrations = load_task(task).spec.demonstrations
    refused = demonstrations.refused and demonstrations.split is None
    return [number for number in wanted if number == "0" or not refused]


def drawn(task: str, protocol: str) -> list[str]:
    """What to add to a command so that demonstrations are drawn without features."""
    chooser = load_task(task, protocol=protocol).spec.demonstrations.chooser
    if chooser not in NEEDS_FEATURES:
        return []
    return [
        *("--set", "task.demonstrations.chooser=random"),
        *("--set", "task.demonstrations.options={}"),
    ]


def quickly(task: str) -> list[str]:
    """What to add to a command so that answers are scored in little time: METEOR takes seconds to start."""
    if load_task(task).spec.score.scorer != "captions":
        return []
    if shutil.which("java") is None:
        pytest.skip("caption metrics need Java, which is not installed")
    return ["--set", "task.score.options.metrics=[cider,bleu,rouge_l]"]


def baseline(task: str, protocol: str | None = None) -> str:
    """The name of a model that answers the task without weights."""
    output = load_task(task, protocol=protocol).spec.output
    return "copy" if output.kind == "image" else "most-common"


def seen_by(encoder: Path, task: str) -> list[str]:
    """What to add to a command so that images are scored through this encoder, where they are scored."""
    options = load_task(task).spec.score.options
    added = []
    for name in options.keys() & {"dino", "clip_i", "clip_t", "clip"}:
        place = f"task.score.options.{name}"
        added += ["--set", f"{place}.encoder={encoder}", "--set", f"{place}.preprocessing=null"]
    return added


def judged(task: str) -> list[str]:
    """What to add to a command that runs the task, where a judge scores it: one that answers by a script."""
    if opened(load_task(task)).judged is None:
        return []
    settings = {"default": "0.5\nScore: 3", "replies": {"assistant 1": "6 8"}}
    path = Path("judge.yaml")
    path.write_text(yaml.safe_dump({"name": "judge", "adapter": "scripted", "settings": settings}))
    return ["--judge", str(path)]


@pytest.fixture(scope="session")
def tiny_emu2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The YAML file of an Emu2 of tiny sizes with random weights and a vocabulary trained here."""
    import sentencepiece
    import torch

    from emu2eval.adapters.emu2.config import DecoderConfig, Emu2Config, VisionConfig
    from emu2eval.adapters.emu2.model import Emu2
    from emu2eval.adapters.emu2.saving import save_folder
    from emu2eval.adapters.emu2.tokenizer import Tokenizer

    folder = tmp_path_factory.mktemp("tiny")
    texts = ["What color is the square?", "based on the picture, short answer: red", "yes no A B C"]
    with (folder / "tokenizer.model").open("wb") as out:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts * 20),
            model_writer=out,
            model_type="bpe",
            vocab_size=340,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            hard_vocab_limit=False,
            minloglevel=2,
        )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = Emu2Config(
        VisionConfig(image_size=28, patch_size=14, width=16, layers=1, head_width=8, mlp_ratio=2.0),
        DecoderConfig(
            hidden_size=32,
            intermediate_size=64,
            num_attention_heads=4,
            num_hidden_layers=2,
            vocab_size=Tokenizer(folder / "tokenizer.model", "base").size,
            max_position_embeddings=4096,
        ),
        n_query=4,
        v_query=1,
    )
    save_folder(folder / "model", Emu2(config), tokenizer=folder / "tokenizer.model")
    settings = {"checkpoint": str(folder / "model"), "dtype": "float32", "batch": 4}
    path = folder / "tiny-emu2.yaml"
    spec = {"name": "tiny-emu2", "adapter": "emu2", "settings": settings}
    path.write_text(yaml.safe_dump(spec), encoding="utf-8")
    yield str(path)
    torch.set_num_threads(threads)
