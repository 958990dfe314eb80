"""A rank's shares of a language model's weights, cut as transformers plans it (tensor parallelism)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard

from emu2eval.adapters.local.private import local_place, parallel_plan
from emu2eval.adapters.local.tensorfile import StoredTensor, is_safetensors, stream

Place = tuple[slice, ...]
"""Of a share in the whole tensor."""


def split(model: nn.Module, language: Any, mesh: DeviceMesh) -> list[str]:
    """Cuts the weights of a model's language model, still without data, to one rank's; their names and shapes
    stay those of the whole. Returns the names of the model's weights that every rank holds whole.

    language: of transformers.
    """
    from transformers.distributed.tensor_parallel import apply_tensor_parallelism

    apply_tensor_parallelism(language, mesh, parallel_plan(language))
    return [n for n, weight in model.named_parameters() if not isinstance(weight, DTensor)]


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of it."""
    found: Tensor = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return found


def fill_shares(
    module: nn.Module,
    tensors: Mapping[str, StoredTensor],
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    """Reads what this rank holds of each of the module's split weights, and no more of the tensors in memory.

    Other weights are left as they are.
    """
    weights = {name: w for name, w in module.named_parameters() if isinstance(w, DTensor)}
    places = {name: local_place(weight) for name, weight in weights.items()}
    for name, part in read_shares({name: (tensors[name], places[name]) for name in weights}):
        weight, (parent, _, leaf) = weights[name], name.rpartition(".")
        share = DTensor.from_local(
            part.to(device, dtype, copy=True).contiguous(),
            weight.device_mesh,
            weight.placements,
            run_check=False,
            shape=weight.shape,
            stride=weight.stride(),
        )
        module.get_submodule(parent).register_parameter(
            leaf, nn.Parameter(share, requires_grad=False)
        )


def read_shares(
    wanted: Mapping[str, tuple[StoredTensor, Place]],
) -> Iterator[tuple[str, Tensor]]:
    """(name, share) on the CPU, file by file, one share in memory at a time; of pickles, a whole tensor."""
    files: defaultdict[Path, list[tuple[str, StoredTensor, Place]]] = defaultdict(list)
    for name, (stored, place) in wanted.items():
        files[stored.file].append((name, stored, place))
    for file, parts in files.items():
        if not is_safetensors(file):
            places = {name: place for name, _, place in parts}
            for name, tensor in stream([(name, stored) for name, stored, _ in parts]):
                yield name, tensor[places[name]]
            continue
        with safe_open(file, "pt") as opened:
            for name, stored, place in sorted(parts, key=lambda part: part[1].start):
                yield name, opened.get_slice(stored.key)[place]


def whole_words(scores: Tensor, head: Any) -> Tensor:
    """(rows, this rank's words) -> (rows, words), on every rank. head: the weight that made the scores."""
    shape = (*scores.shape[:-1], head.shape[0])
    stride = torch.empty(shape, device="meta").stride()
    spread = DTensor.from_local(
        scores,
        head.device_mesh,
        [Shard(-1)],
        run_check=False,
        shape=torch.Size(shape),
        stride=stride,
    )
    found: Tensor = spread.full_tensor()
    return found
