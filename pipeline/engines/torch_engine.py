"""The torch engine: every family, optimizer and precision, on any device.

Kept plain on a CPU: there it is the reference that the native kernel is tested against. On a GPU a batch goes through
in micro-batches (`pipeline.plan.placement`), logits of a large vocabulary are made piece by piece, long runs are
compiled, steps of a fixed form are replayed as one CUDA graph, and what a step measured stays on the device until it is
read. None of that changes a result by more than rounding; what fails of it is left out with a line that says so.
"""

from __future__ import annotations

import hashlib
import sys

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.engines import Pending, StepResult, check_tokens, measured
from pipeline.engines.cuda_graph import Replayed
from pipeline.errors import UserError
from pipeline.models import family, transformer
from pipeline.models import weights as weights_of
from pipeline.models.initial import initial, split
from pipeline.plan.cost import gpu_seconds
from pipeline.plan.placement import CARD_SLOTS, Placement, place
from pipeline.plan.run import Run

EVALUATION_TOKENS = 16_384
"""Tokens evaluated at once, to bound the memory of the logits."""
COMPILE_SECONDS = 600
"""A run on a GPU is compiled when it is planned to take longer: compiling takes half a minute or more."""


class TorchEngine:
    """One model and its optimizer in torch: see `pipeline.engines.Engine`.

    Parameters
    ----------
    run
        What to train.
    device
        cpu, cuda, or any other name of a torch device.
    threads
        Threads of operations on the CPU.
    compile
        Compile the loss and its gradient with torch.compile; None compiles long runs on a GPU.
    placement
        How a batch is put through the device; by default as a GPU's memory asks for it, and in one piece on a CPU.
    slots
        Parts of the GPU that are this engine's, of `placement.CARD_SLOTS`.

    Raises
    ------
    UserError
        When the run does not fit on the GPU.
    """

    name = "torch"

    def __init__(
        self,
        run: Run,
        device: str = "cpu",
        threads: int = 1,
        compile: bool | None = False,
        placement: Placement | None = None,
        slots: int = CARD_SLOTS,
    ) -> None:
        torch.set_num_threads(threads)
        self.run, self.device, self._family = run, torch.device(device), family(run.family)
        self._on_card = self.device.type == "cuda"
        if self._on_card:
            self.device = torch.device("cuda", self.device.index or 0)
            torch.cuda.set_device(self.device)
            if run.precision == "bfloat16":
                torch.set_float32_matmul_precision("high")  # for what autocast leaves in float32
        self.placement = placement or self._place(slots)
        self._weights = self._make_weights()
        self._leaves = list(self._weights.values())
        steps_alike = run.optimizer == "adamw" and not run.dropout and not self.placement.recompute
        self._has_graph = self._on_card and steps_alike and self._alone()
        self._optimizer = _optimizer(run, self._weights, self._has_graph)
        self._compiled = None
        if compile or (compile is None and self._on_card and gpu_seconds(run) > COMPILE_SECONDS):
            self._compiled = torch.compile(self._losses)
        self._steps = 0
        self._forget_graph()

    def _place(self, slots: int) -> Placement:
        """Return how a batch is put through this device."""
        if not self._on_card:
            return Placement(micro_batch=self.run.batch_sequences)
        memory = torch.cuda.get_device_properties(self.device).total_memory * slots / CARD_SLOTS
        placement = place(self.run, memory)
        if placement is None:
            raise UserError(f"{self.run.id} does not fit into {memory / 1e9:.0f} GB of a GPU: it needs several cards")
        return placement

    def _make_weights(self) -> dict[str, Tensor]:
        """Return the first weights by name, as leaves that take gradients."""
        return {
            name: torch.tensor(value, device=self.device, requires_grad=True)
            for name, value in split(initial(self.run), self.run).items()
        }

    def step(self, tokens: np.ndarray, lr: float, noise: bool = False) -> StepResult | Pending:
        """Update the weights on a batch; the noise halves have each their own backward pass.

        On a GPU the result is still being computed when this returns.
        """
        self._steps += 1
        if self.run.dropout:
            torch.manual_seed(_dropout_seed(self.run.seed, self._steps, self._stream()))
        for group in self._optimizer.param_groups:
            rate = lr * group["part"]
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        batch = self._to_device(tokens)
        if self._replayed is None or noise != self.run.noise:
            values = self._update(batch, noise)
        else:
            values = self._replayed(batch)
        return Pending(values) if self._on_card else measured(values.tolist())

    def _update(self, batch: Tensor, noise: bool) -> Tensor:
        """Make the step; return loss, gradient norm and, with `noise`, the norms of both halves and the whole."""
        if noise and len(batch) > 1:
            loss, gradients, norms = self._halves(batch)
        else:
            loss, gradients = self._gradients(batch)
            norms = []
        norm = self._norm(gradients)
        if self.run.clip:
            self._scale(gradients, (self.run.clip / (norm + 1e-6)).clamp(max=1.0))
        for leaf, gradient in zip(self._leaves, gradients, strict=True):
            leaf.grad = gradient
        self._optimizer.step()
        return torch.stack([loss, norm, *norms])

    def evaluate(self, tokens: np.ndarray) -> np.ndarray:
        """Return the summed loss by position, float64 of shape (n_ctx,)."""
        total = torch.zeros(self.run.n_ctx, dtype=torch.float64, device=self.device)
        windows = max(1, EVALUATION_TOKENS // self.run.n_ctx)
        with torch.no_grad():
            for start in range(0, len(tokens), windows):
                losses = self._losses(self._to_device(tokens[start : start + windows]), dropout=0.0)
                total += losses.double().sum(0)
        return total.cpu().numpy()

    def weights(self) -> dict[str, np.ndarray]:
        """Return a copy of the weights."""
        return {name: self._to_host(leaf.detach()) for name, leaf in self._weights.items()}

    def set_weights(self, weights: dict[str, np.ndarray]) -> None:
        """Replace the weights and leave the optimizer alone."""
        with torch.no_grad():
            for name, leaf in self._weights.items():
                leaf.copy_(self._from_host(weights[name], leaf))

    def state(self) -> dict[str, np.ndarray]:
        """Return a copy of weights, optimizer state and number of steps."""
        arrays = {f"weights/{name}": value for name, value in self.weights().items()}
        for index, values in self._optimizer.state_dict()["state"].items():
            for name, value in values.items():
                arrays[f"optimizer/{index}/{name}"] = self._to_host(value.detach())
        return arrays | {"steps": np.array(self._steps)}

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Continue from a `state`."""
        self.set_weights({name: state[f"weights/{name}"] for name in self._weights})
        own = self._optimizer.state_dict()
        own["state"] = {}
        order = [number for group in own["param_groups"] for number in group["params"]]
        leaves = [leaf for group in self._optimizer.param_groups for leaf in group["params"]]
        like = dict(zip(order, leaves, strict=True))
        for name, value in state.items():
            if name.startswith("optimizer/"):
                _, index, key = name.split("/")
                own["state"].setdefault(int(index), {})[key] = self._from_host(value.copy(), like[int(index)])
        self._optimizer.load_state_dict(own)
        self._steps = int(state["steps"])
        self._forget_graph()

    def _forget_graph(self) -> None:
        """Start anew with the CUDA graph, where the steps are of the kind that has one."""
        update = Replayed(lambda batch: self._update(batch, self.run.noise))
        self._replayed = update if self._has_graph else None

    def _alone(self) -> bool:
        """Return whether no other process trains the same run."""
        return True

    def _stream(self) -> int:
        """Return the number of this process's stream of dropout masks."""
        return 0

    def _to_host(self, tensor: Tensor) -> np.ndarray:
        return tensor.to("cpu", copy=True).numpy()

    def _from_host(self, array: np.ndarray, like: Tensor) -> Tensor:
        """Return the tensor of an array that is to become `like`, or one of its moments."""
        return torch.from_numpy(array)

    def _to_device(self, tokens: np.ndarray) -> Tensor:
        check_tokens(tokens, self.run)
        if self._on_card:  # pinned, so that the copy waits for nothing and the next batch is made meanwhile
            return torch.from_numpy(tokens.astype(np.int32)).pin_memory().to(self.device, non_blocking=True).long()
        return torch.from_numpy(tokens.astype(np.int64)).to(self.device)

    def _losses(self, tokens: Tensor, dropout: float) -> Tensor:
        """Return the loss of each token: (batch, n_ctx + 1) -> (batch, n_ctx)."""
        run, targets = self.run, tokens[:, 1:]
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._autocast()):
            x = self._family.hidden(self._weights, tokens[:, :-1], run, dropout, self.placement.recompute)
            if self.placement.chunk:
                return chunked_losses(self._weights, x, targets, self.placement.chunk)
            logits = transformer.head(self._weights, x)
        return token_losses(logits, targets)

    def _autocast(self) -> bool:
        """Return whether matrix products are in bfloat16: not where a card's autocast would take another format."""
        return self.run.precision == "bfloat16" and (self._family.AUTOCAST_ON_CARD or not self._on_card)

    def _gradients(self, tokens: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the mean loss of sequences and its gradients, summed over micro-batches."""
        parts = tokens.split(self.placement.micro_batch)
        if len(parts) == 1:
            return self._backward(tokens)
        loss, gradients = torch.zeros((), device=self.device), None
        for part in parts:
            share = len(part) / len(tokens)
            part_loss, part_gradients = self._backward(part)
            loss = loss + share * part_loss
            if gradients is None:
                gradients = list(torch._foreach_mul(part_gradients, share))
            else:
                torch._foreach_add_(gradients, part_gradients, alpha=share)
        return loss, gradients

    def _backward(self, tokens: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the mean loss of sequences that go through at once, and its gradients."""
        if self._compiled is not None:
            try:
                return self._differentiate(self._compiled(tokens, self.run.dropout))
            except Exception as error:  # whatever can't be compiled can be called
                if not self._on_card or isinstance(error, torch.OutOfMemoryError):
                    raise
                print(f"not compiled ({type(error).__name__}): the run goes on as it is", file=sys.stderr)
                self._compiled = None
        return self._differentiate(self._losses(tokens, self.run.dropout))

    def _differentiate(self, losses: Tensor) -> tuple[Tensor, list[Tensor]]:
        loss = losses.mean()
        # The fused optimizer reads gradients in the order of memory: an LSTM's come transposed.
        gradients = [gradient.contiguous() for gradient in torch.autograd.grad(loss, self._leaves)]
        return loss.detach(), gradients

    def _norm(self, gradients: list[Tensor]) -> Tensor:
        """Return the global norm of gradients."""
        return torch.nn.utils.get_total_norm(gradients)

    def _scale(self, gradients: list[Tensor], factor: Tensor) -> None:
        """Multiply gradients in place."""
        torch._foreach_mul_(gradients, factor)

    def _halves(self, tokens: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Return loss and gradients of the batch, made from its halves, and the norms of both halves and of it."""
        cut = len(tokens) // 2
        parts = [self._gradients(half) for half in (tokens[:cut], tokens[cut:])]
        shares = [cut / len(tokens), 1 - cut / len(tokens)]
        loss = sum(share * loss for share, (loss, _) in zip(shares, parts, strict=True))
        norms = [self._norm(gradients) for _, gradients in parts]
        gradients = list(torch._foreach_mul(parts[0][1], shares[0]))
        torch._foreach_add_(gradients, parts[1][1], alpha=shares[1])
        return loss, gradients, [*norms, self._norm(gradients)]


def chunked_losses(weights: transformer.Weights, x: Tensor, targets: Tensor, chunk: int) -> Tensor:
    """Return the loss of each token from the last hidden state: (batch, time, d_model) -> (batch, time).

    Logits of at most `chunk` sequences exist at once (0 is all): they are made again in the backward pass.
    """
    if not chunk or len(x) <= chunk:
        return head_losses(weights, x, targets)
    pairs = zip(x.split(chunk), targets.split(chunk), strict=True)
    return torch.cat([transformer.repeatable(head_losses, weights, *pair) for pair in pairs])


def head_losses(weights: transformer.Weights, x: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of each token from the last hidden state, all logits at once."""
    return token_losses(transformer.head(weights, x), targets)


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of each token in float32: (batch, time, n_vocab) and (batch, time) -> (batch, time)."""
    # Flat, so that the logits of a token lie together: on a CPU the other layout is more than twice as slow.
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)


def _optimizer(run: Run, leaves: dict[str, Tensor], graph: bool) -> torch.optim.Optimizer:
    """Return AdamW or Adafactor of leaves by name, in groups whose rate is their `part` of the schedule's.

    Hidden matrices have the part `lr_hidden`, all else 1. Weights decay in matrices, embeddings included, and not in
    norms and biases. Adafactor's steps are relative, as in Shazeer & Stern 2018: min(lr, step^-1/2) times the size of
    each weight, where lr is the group's.
    """
    groups = []
    for roles, part, decay in (
        (("embedding", "depth"), 1.0, run.weight_decay),
        (("matrix",), run.lr_hidden, run.weight_decay),
        (("vector",), 1.0, 0.0),
    ):
        own = [leaves[one.name] for one in weights_of(run) if one.role in roles]
        # In a CUDA graph the rate must be a tensor, one a group, and the count of steps on the device.
        lr = torch.tensor(run.lr, device=own[0].device) if graph and own else run.lr
        groups.append({"params": own, "part": part, "lr": lr, "weight_decay": decay})
    if run.optimizer == "adafactor":
        return torch.optim.Adafactor(groups)
    return torch.optim.AdamW(groups, betas=(run.beta1, run.beta2), eps=run.eps, fused=True, capturable=graph)


def _dropout_seed(seed: int, step: int, stream: int = 0) -> int:
    """Return the seed of a step's dropout: a function of run and step, so that a resumed run draws the same masks.

    Processes that share a batch have each a stream of their own.
    """
    text = f"dropout:{seed}:{step}" + (f":{stream}" if stream else "")
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
