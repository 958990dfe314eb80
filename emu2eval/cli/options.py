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
        help="Tasks or suites, by name or .yaml file: a b, a,b or 'vl_icl_*'.",
        autocompletion=completion.tasks,
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        help="Model names, .yaml files, checkpoint folders, or org/name on the Hugging Face hub "
        "[default: emu2-nano, on the bundled tasks].",
        autocompletion=completion.models,
    ),
]
ShotCounts = Annotated[
    list[str],
    typer.Option(
        "--shots",
        "-k",
        help="Numbers of demonstrations: 0 4 or 0,4; '0*' = text-only ones [default: the suite's, "
        "else 0].",
    ),
]
Limit = Annotated[
    str | None,
    typer.Option(
        metavar="N|PART",
        help="Evaluate only N queries, or a fraction below 1 (0.1 = a tenth, rounded up): a fixed "
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
        help="Scorer to use instead of the task's: a name, module:attr, or FILE.py:NAME of a function "
        "(prediction, references) -> float.",
    ),
]
Ablate = Annotated[
    list[str],
    typer.Option(
        help="What to remove from the demonstrations: labels, images or order (shuffled), blank (white "
        "images), or none.",
        autocompletion=completion.ablations,
    ),
]
Out = Annotated[
    Path | None, typer.Option(help="Folder of runs [default: $EMU2EVAL_RUNS or results/runs].")
]
Seed = Annotated[
    int, typer.Option(help="Seed for everything random: demonstrations, sampled answers, noise.")
]
Protocol = Annotated[
    str | None, typer.Option(help="Prompt and scoring protocol [default: the task's].")
]
Split = Annotated[
    str | None, typer.Option(help="Split that the queries come from [default: the task's].")
]
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
    typer.Argument(help="Paths, names or prefixes of names.", autocompletion=completion.runs),
]
Run = Annotated[
    str,
    typer.Argument(
        help="A run: its path, name, or a prefix of its name.", autocompletion=completion.runs
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
        help="Batch size, or auto: as many requests as fit in GPU memory [default: the model's].",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="For local models: cpu, cuda, cuda:1 or mps [default: all GPUs, else the CPU].",
    ),
]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="Serving engine to start for the model: vllm, sglang, llama.cpp or transformers, as installed "
        "on this machine [default: none; the model runs in this process].",
        autocompletion=completion.engines,
    ),
]
ReplicaCount = Annotated[
    str | None,
    typer.Option(
        "--replicas",
        help="Copies of each model that answer side by side, each in a process of its own on the fewest GPUs "
        "that it fits, or auto: as many as fit. Needs emu2eval[ray] [default: one, in this process; with "
        "--cluster, auto].",
    ),
]
ClusterAddress = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        help="Where replicas run: HOST:PORT of a Ray cluster, or auto on one of its nodes "
        "[default: this machine].",
    ),
]
PartNumber = Annotated[
    str | None,
    typer.Option(
        "--part",
        metavar="N/PARTS",
        help="Answer only the N-th of so many parts of each run, as one job of an array; emu2eval merge puts "
        "the parts together [default: all of it].",
    ),
]
Source = Annotated[
    str | None,
    typer.Option(
        "--source",
        help="Data source: official or hub [default: official, or hub if only that is present].",
    ),
]
Log = Annotated[
    list[str],
    typer.Option(
        "--log",
        help="Log during the run: tensorboard[=DIR], wandb[=PROJECT] or mlflow[=URI].",
    ),
]
