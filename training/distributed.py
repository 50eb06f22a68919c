"""Data-parallel training (DDP): process group, all-reduce, broadcast, started by ``torchrun``.

Without torchrun there is one process, and every function here is then the identity.
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
    """Return this process's rank in the process group; rank 0 writes files and talks."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return how many processes train together; 1 without torchrun."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def process_group(device: str) -> Iterator[torch.device]:
    """Join the process group of torchrun (NCCL or Gloo), if any; yield the device to work on.

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
    # Of the search for tensors without a gradient, see `wrap_ddp`, in every process.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        run.main(["--standalone", f"--nproc-per-node={processes}", "-m", module, *words])
    except ChildFailedError:  # it has said why
        return 1
    return 0


def wrap_ddp(module: nn.Module) -> nn.Module:
    """Wrap a module in DistributedDataParallel (DDP): backward averages its gradients.

    Tensors without a gradient are searched for in every step: a batch may hold no object, and so
    give a head no work. It also keeps the messages the same in every step, which a resumed run
    needs to repeat sums to the last bit.
    """
    if world_size() == 1:
        return module
    return DistributedDataParallel(module, broadcast_buffers=False, find_unused_parameters=True)


@torch.no_grad()
def all_reduce_mean(value: Tensor) -> Tensor:
    """All-reduce a tensor to its mean over the processes, without gradient.

    A loss that divides a sum by a count (of positives, RoIs, cells) must divide by the mean count
    of all processes. Their averaged gradients are then those of one process with the whole batch.
    """
    if world_size() == 1:
        return value.detach()
    total = value.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total / world_size()


def broadcast(value: Any) -> Any:
    """Broadcast rank 0's value, any object that can be pickled, to every process."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def gather(value: Any) -> list[Any]:
    """Gather the values of all processes, by rank, in rank 0; an empty list in the others."""
    if world_size() == 1:
        return [value]
    values = [None] * world_size() if rank() == 0 else None
    dist.gather_object(value, values, dst=0)
    return values or []


def broadcast_weights(module: nn.Module) -> None:
    """Broadcast a module's weights and normalisation statistics from rank 0."""
    if world_size() > 1:
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, src=0)


def convert_sync_batchnorm(model: Model) -> Model:
    """Replace batch normalisation by `torch.nn.SyncBatchNorm`: statistics of the whole batch.

    For GPUs: PyTorch has none for the CPU. Names and shapes of the weights stay. The layers talk
    in a group of their own, so that their messages and those of the gradients cannot be taken for
    each other.
    """
    if world_size() == 1:
        return model
    return nn.SyncBatchNorm.convert_sync_batchnorm(model, dist.new_group())
