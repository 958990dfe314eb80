"""`emu2eval plan`: on how many devices a model runs, how often and in what batches, on paper."""

from __future__ import annotations

from typing import Annotated

import typer

from emu2eval.cli import completion
from emu2eval.cli.options import Engine, Sets
from emu2eval.cli.say import console

app = typer.Typer(rich_markup_mode=None)


@app.command(
    epilog="""\b
Examples:
  emu2eval plan --model emu2 --memory 8x80GiB --shots 4
  emu2eval plan --model emu2-chat --memory 4x24GiB --shots 4 --batch 2
  emu2eval plan --model Qwen/Qwen2.5-VL-7B-Instruct --shots 8
  emu2eval plan --model emu2 --memory 24GiB,cpu:64GiB --quantize 8

A replica takes the fewest GPUs on which the model fits with its usual batch; the batch shown is the largest
power of two that then fits."""
)
def plan(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="Model name, checkpoint folder or .yaml file.",
            autocompletion=completion.models,
        ),
    ],
    memory: Annotated[
        str | None,
        typer.Option(
            help="One size per GPU, such as 8x80GiB, optionally followed by cpu:SIZE and disk "
            "[default: this machine's devices]."
        ),
    ] = None,
    shots: Annotated[int, typer.Option("--shots", "-k", min=0, help="Demonstrations.")] = 0,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Batch size [default: the largest that fits].")
    ] = None,
    beams: Annotated[
        int | None, typer.Option(min=1, help="Beams in beam search [default: the model's].")
    ] = None,
    quantize: Annotated[
        int | None, typer.Option(help="Quantize to 8 or 4 bits [default: the model's].")
    ] = None,
    images: Annotated[int, typer.Option(min=0, help="Images per demonstration.")] = 1,
    text: Annotated[int, typer.Option(min=0, help="Text tokens per demonstration.")] = 32,
    new_tokens: Annotated[int, typer.Option(min=1, help="New tokens per answer.")] = 10,
    engine: Engine = None,
    set_: Sets = [],  # noqa: B006
) -> None:
    """Show replicas, batch and memory of a model on devices; needs neither weights nor a GPU."""
    from emu2eval.adapters.memory import Workload, parse_memory
    from emu2eval.report.placement import show_plan
    from emu2eval.spec.changes import Changes

    changes = Changes.of(set_)
    if quantize is not None:
        changes = changes.merged(Changes(model={"settings.quantize": quantize}))
    workload = Workload(shots, images, text, new_tokens, batch=batch, beams=beams)
    given = None if memory is None else parse_memory(memory)
    console().print(show_plan(model, changes, workload, given, engine))
