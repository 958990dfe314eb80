"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emu2eval.cli import completion

Tasks = Annotated[
    list[str],
    typer.Option(
        "--task",
        "-t",
        help="Tasks or suites by name or .yaml file: a b, a,b or 'vl_icl_*'.",
        autocompletion=completion.tasks,
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        help="Model names, .yaml files, folders of checkpoints, or the hub's org/name "
        "[default: emu2-nano, on the bundled tasks].",
        autocompletion=completion.models,
    ),
]
ShotCounts = Annotated[
    list[str],
    typer.Option(
        "--shots",
        "-k",
        help="Numbers of demonstrations: 0 4 or 0,4; '0*' = text-only ones [default: a suite's own, "
        "else 0].",
    ),
]
Limit = Annotated[
    str | None,
    typer.Option(
        metavar="N|PART",
        help="Only so many queries, or, below 1, that part of them (0.1 = a tenth, rounded up): a fixed "
        "random subset.",
    ),
]
Sets = Annotated[
    list[str],
    typer.Option("--set", help="task., model. or judge.KEY=VALUE, as in the YAML files."),
]
JudgeName = Annotated[
    str | None,
    typer.Option(
        "--judge",
        help="The judge: a model name, a .yaml file, or one of OpenAI's models.",
        autocompletion=completion.models,
    ),
]
ScorerName = Annotated[
    str | None,
    typer.Option(
        "--scorer",
        help="Instead of the task's own: a name, module:attr, or FILE.py:NAME of a function "
        "(prediction, references) -> float.",
    ),
]
Ablate = Annotated[
    list[str],
    typer.Option(
        help="What to take away from demonstrations: labels, images or order (shuffled), blank (white "
        "images), or none.",
        autocompletion=completion.ablations,
    ),
]
Out = Annotated[
    Path | None, typer.Option(help="Folder of runs [default: $EMU2EVAL_RUNS or results/runs].")
]
Seed = Annotated[
    int, typer.Option(help="Seed of all draws: of demonstrations, sampled answers, noise.")
]
Protocol = Annotated[
    str | None, typer.Option(help="How the task is asked [default: the task's own].")
]
Split = Annotated[str | None, typer.Option(help="Split of the queries [default: the task's own].")]
Form = Annotated[
    str,
    typer.Option(
        "--format",
        "-f",
        help="rich, markdown, csv, json or latex.",
        autocompletion=completion.formats,
    ),
]
Runs = Annotated[
    list[str] | None,
    typer.Argument(help="Paths, names or beginnings of names.", autocompletion=completion.runs),
]
Run = Annotated[
    str,
    typer.Argument(
        help="A run: its path, name or beginning of its name.", autocompletion=completion.runs
    ),
]
Task = Annotated[
    str,
    typer.Option(
        "--task",
        "-t",
        help="Task name or path of a .yaml file.",
        autocompletion=completion.tasks,
    ),
]
Batch = Annotated[
    str | None,
    typer.Option(
        "--batch",
        help="Requests at a time, or auto: as many as fit into a GPU's memory [default: the model's].",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="cpu, cuda, cuda:1 or mps, for models on this machine [default: the GPUs, else the CPU].",
    ),
]
Source = Annotated[
    str | None,
    typer.Option(
        "--source",
        help="official or hub [default: the official files, or the hub's where only those are present].",
    ),
]
Log = Annotated[
    list[str],
    typer.Option(
        "--log",
        help="Log while it goes on: tensorboard[=DIR], wandb[=PROJECT] or mlflow[=URI].",
    ),
]
