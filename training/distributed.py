"""Several processes that train one network, on one machine or many, started by ``torchrun``.

Without torchrun there is one process, and every function here is then the obvious one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from amodal_perception.errors import ConfigError
from amodal_perception.processes import end_with_parent

Model = TypeVar("Model", bound=nn.Module)


def launched() -> bool:
    """Tell whether torchrun started this process."""
    return dist.is_torchelastic_launched()


def rank() -> int:
    """Return this process's number; 0 writes files and talks."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def joined(device: str) -> Iterator[torch.device]:
    """Join the other processes that torchrun started, if any; yield the device to work on.

    Args:
        device: ``cpu``, ``cuda`` (each process takes the GPU of its local rank), or ``auto``: a
            GPU where there is one.

    Raises:
        ConfigError: there is no such GPU.
    """
    gpus = torch.cuda.device_count()
    if device == "cpu" or (device == "auto" and gpus == 0):
        chosen = torch.device("cpu")
    else:
        local = int(os.environ.get("LOCAL_RANK", 0))
        if local >= gpus:
            raise ConfigError(
                f"device={device}: process {local} of this machine needs a GPU of its own, but "
                f"PyTorch sees {gpus}; start fewer processes, or give device=cpu"
            )
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
    if not launched():
        yield chosen
        return
    end_with_parent()
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield chosen
    finally:
        dist.destroy_process_group()


def launch(processes: int, module: str, words: Sequence[str]) -> int:
    """Run ``torchrun --nproc_per_node=N -m module words`` in this process; return its exit code.

    The cores are shared out among the processes, unless ``OMP_NUM_THREADS`` says otherwise.
    """
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    threads = max(1, len(os.sched_getaffinity(0)) // processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    # Of the search for tensors without a gradient, see `share_gradients`, in every process.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        run.main(["--standalone", f"--nproc-per-node={processes}", "-m", module, *words])
    except ChildFailedError:  # it has said why
        return 1
    return 0


def share_gradients(module: nn.Module) -> nn.Module:
    """Wrap a module so that backward averages its gradients over the processes.

    Tensors without a gradient are searched for in every step: a batch may hold no object, and so
    give a head no work. It also keeps the messages the same in every step, which a resumed run
    needs to repeat sums to the last bit.
    """
    if count() == 1:
        return module
    return DistributedDataParallel(module, broadcast_buffers=False, find_unused_parameters=True)


@torch.no_grad()
def mean_over_processes(value: Tensor) -> Tensor:
    """Return the mean of a tensor over the processes, without gradient.

    A loss that divides a sum by a count (of positives, RoIs, cells) must divide by the mean count
    of all processes. Their averaged gradients are then those of one process with the whole batch.
    """
    if count() == 1:
        return value.detach()
    return _summed(value) / count()


def from_first(value: Any) -> Any:
    """Return process 0's value in every process."""
    if count() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def gather(value: Any) -> list[Any]:
    """Return the values of all processes, by rank, in process 0; an empty list in the others."""
    if count() == 1:
        return [value]
    values = [None] * count() if rank() == 0 else None
    dist.gather_object(value, values, dst=0)
    return values or []


def copy_from_first(module: nn.Module) -> None:
    """Overwrite a module's weights and statistics by those of process 0."""
    if count() > 1:
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, src=0)


def synchronise_batchnorm(model: Model, device: torch.device) -> Model:
    """Have every `torch.nn.BatchNorm2d` take its statistics over the processes' whole batch.

    On GPUs this is PyTorch's own layer; it has none for the CPU. Names and shapes of the weights
    stay. The layers talk in a group of their own, so that their messages and those of the
    gradients cannot be taken for each other.
    """
    if count() == 1:
        return model
    group = dist.new_group()
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model, group)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, CpuSyncBatchNorm2d.like(child, group))
    return model


class CpuSyncBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the batches of all processes, for the CPU."""

    group: dist.ProcessGroup

    @classmethod
    def like(cls, norm: nn.BatchNorm2d, group: dist.ProcessGroup) -> CpuSyncBatchNorm2d:
        """Take over a layer's settings, weights and statistics."""
        layer = cls(
            norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
        )
        layer.weight, layer.bias = norm.weight, norm.bias
        layer.running_mean, layer.running_var = norm.running_mean, norm.running_var
        layer.num_batches_tracked = norm.num_batches_tracked
        layer.group = group
        return layer

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [B, C, H, W]; B may be 0 in some of the processes."""
        if not self.training:
            return super().forward(x)
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        number = torch.tensor(float(x.numel() // x.shape[1]))
        dist.all_reduce(number, group=self.group)
        number = number.clamp(min=1)
        # First the mean, then the spread about it: a difference of squares would lose digits.
        mean = _Sum.apply(values.sum((0, 2, 3)), self.group) / number
        centred = values - mean[:, None, None]
        variance = _Sum.apply(centred.square().sum((0, 2, 3)), self.group) / number
        if self.running_mean is not None and self.running_var is not None and number > 1:
            with torch.no_grad():
                momentum = self.momentum if self.momentum is not None else 0.1
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked += 1
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance * number / (number - 1), momentum)
        normal = centred * (variance + self.eps).rsqrt()[:, None, None]
        if self.affine:
            normal = normal * self.weight[:, None, None] + self.bias[:, None, None]
        return normal.to(x.dtype)


class _Sum(torch.autograd.Function):
    """The sum of a tensor over the processes; every process's loss depends on every summand."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return _summed(value, group)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _summed(gradient, ctx.group), None


def _summed(value: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    total = value.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=group)
    return total
