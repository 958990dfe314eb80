"""The same questions in emu2eval and in other harnesses: CPU seconds of whole commands, at two sizes.

A small Idefics2 with random weights, squares of 64 x 64 pixels, float32, batch 8, greedy, ten tokens, on the
CPU. What a question costs is the difference of the two sizes; the rest is starting. Each peer lives in an
environment of its own that sees this torch and transformers, and gets a task file of its own kind.

    python benchmarks/peers.py [--lm-eval /peers/bin/lm_eval] [--lmms-eval /peers/bin/python] [--shots 0]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from measuring import arguments, cpu, squares, table

sys.path.insert(0, str(Path(__file__).parents[1]))

TASK = """\
task: squares
dataset_path: parquet
dataset_kwargs: {{data_files: {{test: {folder}/test.parquet, train: {folder}/train.parquet}}}}
test_split: test
fewshot_split: train
output_type: generate_until
doc_to_target: answer
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1}}
"""
LM_EVAL = """\
doc_to_image: [image]
doc_to_text: "<image>{{question}} Answer:"
generation_kwargs: {max_gen_toks: 10, do_sample: false, until: ["\\n\\n\\n"]}
"""
LMMS_EVAL = """\
doc_to_visual: !function parts.visual
doc_to_text: !function parts.text
generation_kwargs: {max_new_tokens: 10, do_sample: false, temperature: 0, until: ["\\n\\n\\n"]}
"""
PARTS = """\
def visual(doc):
    return [doc["image"].convert("RGB")]
def text(doc, lmms_eval_specific_kwargs=None):
    return doc["question"] + " Answer:"
"""
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def parquet(folder: Path) -> None:
    """The task's rows for the library datasets, images inside."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"image": {"_type": "Image"}}
    kinds |= {name: {"dtype": "string", "_type": "Value"} for name in ("id", "question", "answer")}
    about = {"huggingface": json.dumps({"info": {"features": kinds}})}
    for split in ("test", "train"):
        rows = [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]
        for row in rows:
            row["image"] = {"bytes": (folder / row["image"]).read_bytes(), "path": row["image"]}
        rows = [{name: row[name] for name in kinds} for row in rows]
        pq.write_table(
            pa.Table.from_pylist(rows).replace_schema_metadata(about), folder / f"{split}.parquet"
        )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--lm-eval", help="its command")
    parser.add_argument("--lmms-eval", help="a Python that has it")
    parser.add_argument("--shots", type=int, default=0)
    own = parser.parse_args()
    from tests.adapters.huggingface import families

    few, many = (4, 8) if own.quick else (16, 160)
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        checkpoint, task = base / "idefics2", squares(base / "task", many)
        families.save("idefics2", checkpoint)
        parquet(base / "task")
        for which, more in (("lm", LM_EVAL), ("lmms", LMMS_EVAL)):
            (base / which).mkdir()
            (base / which / "squares.yaml").write_text(TASK.format(folder=base / "task") + more)
            (base / which / "parts.py").write_text(PARTS)
        shots = str(own.shots)

        def here(size: int) -> list[str]:
            command = (
                f"-m emu2eval run --task {task} --model {checkpoint} --shots {shots} --limit {size}"
            )
            settings = "--set model.settings.dtype=float32 task.demonstrations.chooser=random"
            out = f"--batch 8 --device cpu {settings} --out {base}/runs-{size}"
            return [sys.executable, *command.split(), *out.split()]

        def peer(program: list[str], model: str, folder: str, size: int) -> list[str]:
            asked = f"--model {model} --model_args pretrained={checkpoint},dtype=float32"
            asked += ",device=cpu" if folder == "lmms" else ",max_length=4096 --device cpu"
            asked += f" --tasks squares --include_path {base}/{folder} --batch_size 8"
            return [*program, *asked.split(), "--limit", str(size), "--num_fewshot", shots]

        ways: dict[str, Callable[[int], list[str]]] = {"emu2eval": here}
        if own.lm_eval:
            ways["lm-eval"] = lambda size: peer([own.lm_eval, "run"], "hf-multimodal", "lm", size)
        if own.lmms_eval:
            python = [own.lmms_eval, "-m", "lmms_eval"]
            ways["lmms-eval"] = lambda size: peer(python, "idefics2", "lmms", size)
        rows: list[tuple[object, ...]] = []
        for way, command in ways.items():
            taken = [_seconds(command(size)) for size in (few, many)]
            if None in taken:
                rows.append((way, "failed", "", ""))
                continue
            first, last = (seconds or 0.0 for seconds in taken)
            rows.append((way, first, last, 1000 * (last - first) / (many - few)))
    table((f"{shots} shots", f"{few}, s", f"{many}, s", "a question, ms"), rows)


def _seconds(command: list[str]) -> float | None:
    """CPU seconds of a command; None, with its last words, where it fails."""
    started = cpu()
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, **OFFLINE}
    )
    if done.returncode:
        print(f"{command[0]}: {done.stderr.strip().splitlines()[-1:]}", flush=True)
        return None
    return cpu() - started


if __name__ == "__main__":
    main()
