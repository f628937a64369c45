"""Replay a training step as one CUDA graph: a small model's step is hundreds of launches, longer than their work."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3
"""Plain calls before the capture, on a stream of their own, as torch asks for."""


class Replayed:
    """A function of one tensor that always has the same shape and works on fixed memory: called, then replayed.

    The first calls are plain. Then one call is captured (which computes nothing) and replayed from there on. Where the
    capture fails, a line says so and every call stays plain.

    Parameters
    ----------
    function
        What to call: without a synchronisation, and without tensors that are replaced between calls.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self._function = function
        self._plain_calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._failed = False

    def __call__(self, argument: Tensor) -> Tensor:
        """Return a new tensor: the function of `argument`."""
        if self._failed:
            return self._function(argument)
        if self._plain_calls < WARM_UP:
            self._plain_calls += 1
            return self._aside(argument)
        if self._graph is None and not self._capture(argument):
            return self._function(argument)
        self._argument.copy_(argument)
        self._graph.replay()
        return self._result.clone()

    def _aside(self, argument: Tensor) -> Tensor:
        """Call the function on another stream."""
        stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            result = self._function(argument)
        current.wait_stream(stream)
        return result

    def _capture(self, argument: Tensor) -> bool:
        """Record one call; return whether that worked."""
        graph, self._argument = torch.cuda.CUDAGraph(), argument.clone()
        try:
            with torch.cuda.graph(graph):
                self._result = self._function(self._argument)
        except Exception as error:  # whatever can't be captured can be called
            print(f"no CUDA graph of the step ({_first_line(error)}): each is launched anew", file=sys.stderr)
            self._failed = True
            torch.cuda.synchronize()
            return False
        self._graph = graph
        return True


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
