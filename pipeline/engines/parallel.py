"""The torch engine in several processes, each on its own card and with its own share of every batch.

Two ways, one result, that of a single process but for rounding. Replicated: each process holds the whole model, and
gradients are summed over the processes. Sharded (FSDP2): each holds a part of every weight, gradient and moment; a
block's weights are put together while it works. States and weights are whole and on the first process only, in the form
of `TorchEngine`: a run goes on with any number of processes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from pipeline.engines.distributed import Group
from pipeline.engines.torch_engine import TorchEngine, chunked_losses
from pipeline.errors import UserError
from pipeline.models import family, transformer
from pipeline.models.initial import initial, split
from pipeline.plan.placement import Placement, place
from pipeline.plan.run import Run


def parallel_engine(
    run: Run, group: Group, device: str = "cpu", threads: int = 1, compile: bool | None = None
) -> TorchEngine:
    """Return the engine of one of several processes: sharded where a card can't hold the whole model.

    Raises
    ------
    UserError
        When the run does not fit on so many cards.
    """
    if device == "cpu":
        placement = Placement(micro_batch=run.batch_sequences)
    else:
        placement = place(run, torch.cuda.get_device_properties(device).total_memory, group.size)
        if placement is None:
            raise UserError(f"{run.id} does not fit on {group.size} cards like this one")
    kind = ShardedEngine if placement.sharded else ReplicatedEngine
    return kind(run, group, device, threads, compile, placement)


class ReplicatedEngine(TorchEngine):
    """The whole model in each process; gradients are summed over the processes.

    Parameters
    ----------
    run, device, threads, compile, placement
        As in `TorchEngine`; `placement.micro_batch` counts the sequences of one process.
    group
        The processes.
    """

    def __init__(
        self, run: Run, group: Group, device: str, threads: int, compile: bool | None, placement: Placement
    ) -> None:
        self.group = group
        super().__init__(run, device, threads, compile, placement)

    def evaluate(self, tokens: np.ndarray) -> np.ndarray:
        """Return the summed loss by position: each process takes its share of the windows."""
        total = torch.from_numpy(super().evaluate(np.array_split(tokens, self.group.size)[self.group.rank]))
        distributed.all_reduce(total)
        return total.numpy()

    def _gradients(self, tokens: Tensor) -> tuple[Tensor, list[Tensor]]:
        mine = tokens.tensor_split(self.group.size)[self.group.rank]
        if len(mine):
            loss, gradients = super()._gradients(mine)
            share = len(mine) / len(tokens)
            loss = loss * share
            gradients = list(torch._foreach_mul(gradients, share))
        else:
            loss, gradients = torch.zeros((), device=self.device), [torch.zeros_like(leaf) for leaf in self._leaves]
        for tensor in (loss, *gradients):
            distributed.all_reduce(tensor)
        return loss, gradients

    def _alone(self) -> bool:
        return False

    def _stream(self) -> int:
        return self.group.rank

    def _to_host(self, tensor: Tensor) -> np.ndarray:
        """Return a copy in the first process, and nothing in the others, which have no use for it."""
        return super()._to_host(tensor) if self.group.leads else np.empty(0, np.float32)


class ShardedEngine(ReplicatedEngine):
    """A part of every weight in each process (FSDP2); each must have the same share of a batch and of its halves."""

    def __init__(
        self, run: Run, group: Group, device: str, threads: int, compile: bool | None, placement: Placement
    ) -> None:
        half = run.batch_sequences // 2
        batches = (half, run.batch_sequences - half) if run.noise else (run.batch_sequences,)
        uneven = any(sequences % group.size for sequences in batches)
        if not family(run.family).SHARDS or run.optimizer != "adamw" or uneven:
            raise UserError(f"{run.id} can't be sharded over {group.size} processes")
        super().__init__(run, group, device, threads, False, placement)

    def evaluate(self, tokens: np.ndarray) -> np.ndarray:
        """Return the summed loss by position; all processes make equally many calls, as their weights are shared."""
        even = len(tokens) // self.group.size * self.group.size
        rest = TorchEngine.evaluate(self, tokens[even:])
        return super().evaluate(tokens[:even]) + rest

    def _make_weights(self) -> dict[str, Tensor]:
        first = split(initial(self.run), self.run)
        self._model = Model(self.run, {name: torch.tensor(value) for name, value in first.items()}, self.placement)
        mesh = init_device_mesh(self.device.type, (self.group.size,))
        for block in self._model.blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(self._model, mesh=mesh)
        return {name: self._model.weight(name) for name in first}

    def _losses(self, tokens: Tensor, dropout: float) -> Tensor:
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._autocast()):
            return self._model(tokens, dropout)

    def _gradients(self, tokens: Tensor) -> tuple[Tensor, list[Tensor]]:
        mine = tokens.tensor_split(self.group.size)[self.group.rank]
        total = torch.zeros((), device=self.device)
        for leaf in self._leaves:
            leaf.grad = None
        for part in mine.split(self.placement.micro_batch):
            loss = self._losses(part, self.run.dropout).mean() * (len(part) / len(mine))
            loss.backward()  # FSDP takes the mean over the processes
            total += loss.detach()
        distributed.all_reduce(total)
        return total / self.group.size, [leaf.grad for leaf in self._leaves]

    def _norm(self, gradients: list[Tensor]) -> Tensor:
        return super()._norm(gradients).full_tensor()

    def _scale(self, gradients: list[Tensor], factor: Tensor) -> None:
        torch._foreach_mul_([gradient.to_local() for gradient in gradients], factor)

    def _to_host(self, tensor: Tensor) -> np.ndarray:
        return super()._to_host(tensor.full_tensor() if isinstance(tensor, DTensor) else tensor)

    def _from_host(self, array: np.ndarray, like: Tensor) -> Tensor:
        tensor = torch.from_numpy(array)
        if tensor.shape != like.shape:  # a count of steps
            return tensor
        return distribute_tensor(tensor.to(self.device), like.device_mesh, like.placements)


class Model(nn.Module):
    """A Transformer as modules, one a block: what FSDP puts together and takes apart."""

    def __init__(self, run: Run, weights: transformer.Weights, placement: Placement) -> None:
        super().__init__()
        self._run, self._placement = run, placement
        self.blocks = nn.ModuleList(Block(run, weights, number, placement.recompute) for number in range(run.n_layer))
        for name, value in weights.items():
            if not name.startswith("block."):
                self.register_parameter(_slashes(name), nn.Parameter(value))

    def forward(self, tokens: Tensor, dropout: float) -> Tensor:
        """Return the loss of each token: (batch, n_ctx + 1) -> (batch, n_ctx)."""
        own = _own(self)
        x = transformer.embed(own, tokens[:, :-1], dropout)
        for block in self.blocks:
            x = block(x, dropout)
        return chunked_losses(own, x, tokens[:, 1:], self._placement.chunk)

    def weight(self, name: str) -> nn.Parameter:
        """Return a weight by its name in the layout."""
        kind, _, rest = name.partition(".")
        if kind != "block":
            return self._parameters[_slashes(name)]
        number, _, rest = rest.partition(".")
        return self.blocks[int(number)]._parameters[_slashes(rest)]


class Block(nn.Module):
    """A block of a Transformer."""

    def __init__(self, run: Run, weights: transformer.Weights, number: int, recompute: bool) -> None:
        super().__init__()
        self._run, self._recompute = run, recompute
        for name in transformer.BLOCK:
            self.register_parameter(_slashes(name), nn.Parameter(weights[f"block.{number}.{name}"]))

    def forward(self, x: Tensor, dropout: float) -> Tensor:
        """Apply the block: (batch, time, d_model) -> the same."""

        def apply(x: Tensor) -> Tensor:
            return transformer.block(_own(self), x, self._run, dropout)

        return transformer.repeatable(apply, x, random=dropout > 0) if self._recompute else apply(x)


def _slashes(name: str) -> str:
    """Return a name without the dots that torch refuses."""
    return name.replace(".", "/")


def _own(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's own weights by their names in the layout."""
    return {name.replace("/", "."): value for name, value in module._parameters.items()}
