"""Training steps as CUDA graphs.

A step launches some thousand small kernels. Launching them takes a processor 95 ms, whatever the batch, and running them
takes the GPU far less. So the step of each shape is recorded once and launched as a whole.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn


class Graphs:
    """A step that computes gradients of `weights` from a batch, recorded for each shape of the batch.

    On a CPU it is the step itself. Gradients keep their places: the step adds to zeros.
    """

    def __init__(self, step: Callable[[Tensor, Tensor], Tensor], weights: list[nn.Parameter]):
        self.step, self.weights, self.device = step, weights, weights[0].device
        self.recorded: dict[torch.Size, tuple[torch.cuda.CUDAGraph, tuple[Tensor, Tensor], Tensor]] = {}
        for weight in weights:
            weight.grad = torch.zeros_like(weight)

    def __call__(self, rgba: Tensor, ids: Tensor) -> Tensor:
        """What the step gives for a batch, which may be in pinned memory."""
        if self.device.type != "cuda":
            return self._run(rgba, ids)
        if rgba.shape not in self.recorded:
            self.recorded[rgba.shape] = self._record(rgba.to(self.device), ids.to(self.device))
        graph, inputs, result = self.recorded[rgba.shape]
        for held, given in zip(inputs, (rgba, ids)):
            held.copy_(given, non_blocking=True)
        graph.replay()
        return result.clone()

    def forget(self) -> None:
        """Has each shape recorded again, when the step has changed."""
        self.recorded.clear()

    def _run(self, rgba: Tensor, ids: Tensor) -> Tensor:
        torch._foreach_zero_([weight.grad for weight in self.weights])
        return self.step(rgba, ids)

    def _record(self, rgba: Tensor, ids: Tensor) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, Tensor], Tensor]:
        began = time.monotonic()
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                self._run(rgba, ids)
        torch.cuda.current_stream().wait_stream(aside)
        pool = next((graph.pool() for graph, _, _ in self.recorded.values()), None)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            result = self._run(rgba, ids)
        torch.cuda.synchronize()
        recorded = time.monotonic()
        for _ in range(10):
            graph.replay()
        torch.cuda.synchronize()
        print(f"recorded {tuple(rgba.shape)} in {recorded - began:.0f} s: {100 * (time.monotonic() - recorded):.1f} ms", flush=True)
        return graph, (rgba, ids), result
