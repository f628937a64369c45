"""The torch engine: every family, optimizer and precision, on any device.

Kept plain on purpose: it is the reference that the native kernel is tested against. What makes a GPU fast (a CUDA
graph of the whole step, losses left on the device, several runs side by side) belongs into `TorchEngine.step`.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline import models
from pipeline.engines import StepResult
from pipeline.models import lstm, recurrent, transformer
from pipeline.run import Run

LOGITS = {"transformer": transformer.logits, "recurrent": recurrent.logits, "lstm": lstm.logits}
EVALUATION_TOKENS = 16_384
"""Tokens evaluated at once, to bound the memory of the logits."""


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
        Compile the loss with torch.compile.
    """

    name = "torch"

    def __init__(self, run: Run, device: str = "cpu", threads: int = 1, compile: bool = False) -> None:
        torch.set_num_threads(threads)
        self.run, self.device = run, torch.device(device)
        self._weights = {
            name: torch.tensor(value, device=self.device, requires_grad=True)
            for name, value in models.split(models.initial(run), run).items()
        }
        self._leaves = list(self._weights.values())
        self._loss = torch.compile(self._losses) if compile else self._losses
        self._optimizer = _optimizer(run, self._leaves)
        self._steps = 0

    def step(self, tokens: np.ndarray, lr: float, noise: bool = False) -> StepResult:
        """Update the weights on a batch; the noise halves have each their own backward pass."""
        self._steps += 1
        if self.run.dropout:
            torch.manual_seed(_dropout_seed(self.run.seed, self._steps))
        batch = self._to_device(tokens)
        if noise and len(batch) > 1:
            loss, gradients, norms = self._halves(batch)
        else:
            loss, gradients = self._gradients(batch)
            norms = None
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.run.clip:
            torch._foreach_mul_(gradients, (self.run.clip / (norm + 1e-6)).clamp(max=1.0))
        for leaf, gradient in zip(self._leaves, gradients, strict=True):
            leaf.grad = gradient
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        return StepResult(float(loss), float(norm), norms)

    def evaluate(self, tokens: np.ndarray) -> np.ndarray:
        """Return the summed loss by position, float64 of shape (n_ctx,)."""
        total = np.zeros(self.run.n_ctx)
        windows = max(1, EVALUATION_TOKENS // self.run.n_ctx)
        with torch.no_grad():
            for start in range(0, len(tokens), windows):
                losses = self._losses(self._to_device(tokens[start : start + windows]), dropout=0.0)
                total += losses.double().sum(0).cpu().numpy()
        return total

    def weights(self) -> dict[str, np.ndarray]:
        """Return a copy of the weights."""
        return {name: leaf.detach().to("cpu", copy=True).numpy() for name, leaf in self._weights.items()}

    def set_weights(self, weights: dict[str, np.ndarray]) -> None:
        """Replace the weights and leave the optimizer alone."""
        with torch.no_grad():
            for name, leaf in self._weights.items():
                leaf.copy_(torch.from_numpy(weights[name]))

    def state(self) -> dict[str, np.ndarray]:
        """Return a copy of weights, optimizer state and number of steps."""
        arrays = {f"weights/{name}": value for name, value in self.weights().items()}
        for index, values in self._optimizer.state_dict()["state"].items():
            for name, value in values.items():
                arrays[f"optimizer/{index}/{name}"] = value.detach().to("cpu", copy=True).numpy()
        return arrays | {"steps": np.array(self._steps)}

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Continue from a `state`."""
        self.set_weights({name: state[f"weights/{name}"] for name in self._weights})
        own = self._optimizer.state_dict()
        own["state"] = {}
        for name, value in state.items():
            if name.startswith("optimizer/"):
                _, index, key = name.split("/")
                own["state"].setdefault(int(index), {})[key] = torch.from_numpy(value.copy())
        self._optimizer.load_state_dict(own)
        self._steps = int(state["steps"])

    def _to_device(self, tokens: np.ndarray) -> Tensor:
        return torch.from_numpy(tokens.astype(np.int64)).to(self.device)

    def _losses(self, tokens: Tensor, dropout: float) -> Tensor:
        """Return the loss of each token: (batch, n_ctx + 1) -> (batch, n_ctx)."""
        bfloat16 = self.run.precision == "bfloat16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bfloat16):
            logits = LOGITS[self.run.family](self._weights, tokens[:, :-1], self.run, dropout)
        return F.cross_entropy(logits.float().transpose(1, 2), tokens[:, 1:], reduction="none")

    def _gradients(self, tokens: Tensor) -> tuple[Tensor, list[Tensor]]:
        loss = self._loss(tokens, self.run.dropout).mean()
        return loss.detach(), list(torch.autograd.grad(loss, self._leaves))

    def _halves(self, tokens: Tensor) -> tuple[Tensor, list[Tensor], tuple[float, float]]:
        """Return loss and gradients of the batch, made from its halves, and the squared norms of `pipeline.noise`."""
        cut = len(tokens) // 2
        parts = [self._gradients(half) for half in (tokens[:cut], tokens[cut:])]
        shares = [cut / len(tokens), 1 - cut / len(tokens)]
        loss = sum(share * loss for share, (loss, _) in zip(shares, parts, strict=True))
        small = [float(torch.nn.utils.get_total_norm(gradients)) ** 2 for _, gradients in parts]
        gradients = torch._foreach_mul(parts[0][1], shares[0])
        torch._foreach_add_(gradients, parts[1][1], alpha=shares[1])
        large = float(torch.nn.utils.get_total_norm(gradients)) ** 2
        return loss, list(gradients), (sum(small) / 2, large)


def _optimizer(run: Run, leaves: list[Tensor]) -> torch.optim.Optimizer:
    """Return AdamW or Adafactor; weights decay in matrices, embeddings included, and not in norms and biases.

    Adafactor's steps are relative, as in Shazeer & Stern 2018: min(lr, step^-1/2) times the size of each weight.
    """
    groups = [
        {"params": [leaf for leaf in leaves if leaf.ndim > 1], "weight_decay": run.weight_decay},
        {"params": [leaf for leaf in leaves if leaf.ndim == 1], "weight_decay": 0.0},
    ]
    if run.optimizer == "adafactor":
        return torch.optim.Adafactor(groups, lr=run.lr)
    return torch.optim.AdamW(groups, lr=run.lr, betas=(run.beta1, run.beta2), eps=run.eps, fused=True)


def _dropout_seed(seed: int, step: int) -> int:
    """Return the seed of a step's dropout: a function of run and step, so that a resumed run draws the same masks."""
    return int.from_bytes(hashlib.sha256(f"dropout:{seed}:{step}".encode()).digest()[:8], "little") >> 1
