"""A LLaVA of 47,000 parameters with random weights, and squares to train it on: nothing is downloaded.

python examples/tiny_model.py work              # a task and three checkpoints, trained on single images
python examples/tiny_model.py work4 --shots 4   # the same, trained with up to four examples before each
"""

import argparse
import csv
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessorPil,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.utils.logging import disable_progress_bar

from emu2eval import images
from emu2eval.testing import COLOURS, square

WORDS = ["<pad>", "<eos>", "<bos>", "<unk>", "<image>", "what", "colour", "is", "square", "?", "Answer",
         ":", *COLOURS]  # fmt: skip
SIZES = {
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
}


def tiny_model(seed: int = 0):
    """(model, processor); an image takes 4 places of a prompt."""
    torch.manual_seed(seed)
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 2)]
    )
    words = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>",
        unk_token="<unk>", extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    processor = LlavaProcessor(
        CLIPImageProcessorPil(
            size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
        ),
        words, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config={**SIZES, "image_size": 16, "patch_size": 8, "projection_dim": 16,
                       "model_type": "clip_vision_model"},
        text_config={**SIZES, "model_type": "llama", "vocab_size": len(WORDS), "pad_token_id": 0,
                     "eos_token_id": 1, "bos_token_id": 2, "max_position_embeddings": 512},
        image_token_index=4, image_seq_length=4, vision_feature_layer=-1,
    )  # fmt: skip
    return LlavaForConditionalGeneration(config), processor


def batches(processor, size: int = 16, seed: int = 0, shots: int = 0):
    """Endless batches: a square, the question about it and its colour, which alone counts in the loss.

    shots: up to so many solved squares stand before it, a new number for each batch.
    """
    draw = torch.Generator().manual_seed(seed)
    while True:
        shown = 1 + int(torch.randint(shots + 1, (), generator=draw))
        numbers = torch.randint(100, 1000, (size, shown), generator=draw).tolist()
        prompts = [[(n, COLOURS[n % len(COLOURS)]) for n in row] for row in numbers]
        given = processor(
            text=[" ".join(f"<image>what colour is square {n}? Answer: {c}" for n, c in prompt) + " <eos>"
                  for prompt in prompts],
            images=[images.load(square(c, n)) for prompt in prompts for n, c in prompt],
            return_tensors="pt", padding=True,
        )  # fmt: skip
        labels = given["input_ids"].clone()
        labels[:, :-2] = -100  # all but the last colour and the end
        yield {**given, "labels": labels}


TASK = """\
name: squares
title: Which colour is it?
data:
  reader: table
  root: .
  options: {images: file, folder: photos}
  splits: {test: {files: test.csv}, train: {files: train.csv}}
split: test
demonstrations: {split: train}
output: {max_new_tokens: 2}
score: {scorer: exact_match, clean: [first_line, strip, lower]}
protocol: plain
protocols:
  plain: {ask: "{image}{question} Answer:"}
"""


def write_task(folder: Path) -> None:
    """squares.yaml, two CSV files and the images that they name: 40 questions, 40 solved ones."""
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    (folder / "squares.yaml").write_text(TASK)
    for part, first in (("train", 1000), ("test", 0)):
        with (folder / f"{part}.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["id", "file", "question", "answer"])
            for number in range(first, first + 40):
                colour = COLOURS[number % len(COLOURS)]
                images.load(square(colour, number)).save(folder / "photos" / f"{number}.png")
                rows.writerow([number, f"{number}.png", f"what colour is square {number}?", colour])


def main(folder: Path, shots: int) -> None:
    """The task, and checkpoints of a training of 60 steps: folder/step-20, step-40, step-60."""
    torch.set_num_threads(1)
    disable_progress_bar()
    write_task(folder)
    model, processor = tiny_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step, batch in zip(range(1, 61), batches(processor, shots=shots), strict=False):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 20 == 0:
            checkpoint = folder / f"step-{step}"
            model.save_pretrained(checkpoint)
            processor.save_pretrained(checkpoint)
            print(f"step {step}: loss {loss.item():.2f}, {checkpoint}")


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=main.__doc__)
    asked.add_argument("folder", type=Path)
    asked.add_argument("--shots", type=int, default=0, help="solved squares before each, at most")
    given = asked.parse_args()
    main(given.folder, given.shots)
