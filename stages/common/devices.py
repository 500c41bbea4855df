"""Work on many devices: what the ranks of a launch do together, by Lightning Fabric.

`torchrun` or SLURM's `srun` starts a stage once for each device, and Fabric joins these
ranks (gloo on CPUs, nccl on GPUs). Every rank must call the functions of this file in
the same order. In a process of its own they do nothing and import nothing: Fabric costs
seconds of start-up.

How work is shared, so that the result is one process's:

- training: each batch is split among the ranks (`slices.make_loader`), and the gradient
  is that of the whole batch (`fit.fit`, `ReconBatch.mean`);
- what is measured or summed slice by slice: whole batches are dealt out
  (`slices.rank_loader`), then `gathered` or `sum_over_ranks`;
- files: rank 0 alone, in `on_rank_zero`.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, TypeVar, cast

from stages.common.launch import RankError, launch
from stages.common.runtime import device

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import Tensor, nn

T = TypeVar("T")
ModuleT = TypeVar("ModuleT", bound="nn.Module")


def rank() -> int:
    """Number of this process among those of the launch; 0 writes files."""
    return launch().rank


def world_size() -> int:
    """Number of processes of the launch, on all machines."""
    return launch().world_size


def shard(items: Sequence[T]) -> list[T]:
    """This rank's share of a list: every `world_size`-th item, from `rank` on."""
    return list(items[rank() :: world_size()])


@cache
def fabric() -> "Fabric":
    """Join the ranks; waits until all of them have come here."""
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import (
        SLURMEnvironment,
        TorchElasticEnvironment,
    )

    here = launch()
    by_torchrun = TorchElasticEnvironment.detect()
    fabric = Fabric(
        accelerator=device().type,
        devices=here.per_node,
        num_nodes=here.nodes,
        strategy="ddp",
        # Named, or Fabric would pass over srun in jobs called "interactive".
        plugins=[TorchElasticEnvironment() if by_torchrun else SLURMEnvironment()],
    )
    fabric.launch()
    return fabric


def sum_over_ranks(tensor: "Tensor") -> "Tensor":
    """Sum of a tensor over the ranks, the same to the bit on each.

    Args:
        tensor: any shape, the same on each rank, on the rank's device.
    """
    if world_size() == 1:
        return tensor
    return cast("Tensor", fabric().all_reduce(tensor.clone(), reduce_op="sum"))


def gathered(items: Sequence[T]) -> list[T]:
    """Items of all ranks, put back into the order that `shard` dealt them from.

    Args:
        items: what this rank made of each item of its shard; plain data or NumPy.

    Returns:
        The items of one process, on each rank.
    """
    if world_size() == 1:
        return list(items)
    import torch.distributed as dist

    fabric()
    parts: list[list[T]] = [[] for _ in range(world_size())]
    dist.all_gather_object(parts, list(items))
    rounds = range(max(map(len, parts)))
    return [part[turn] for turn in rounds for part in parts if turn < len(part)]


def on_rank_zero(work: Callable[[], T]) -> T:
    """Do something on rank 0 alone, such as writing a file; the others wait.

    Returns:
        What rank 0's call returned, on each rank.

    Raises:
        RankError: on the other ranks, when rank 0 met a user's error.
    """
    if world_size() == 1:
        return work()
    outcome: list[T] = []
    try:
        if rank() == 0:
            outcome = [work()]
    finally:
        outcome = fabric().broadcast(outcome)
    if not outcome:
        raise RankError("rank 0 has failed: its own message says why")
    return outcome[0]


def data_parallel(model: ModuleT) -> ModuleT:
    """Put a model on this rank's device; its gradients become the mean over ranks.

    Returns:
        What to call instead of `model`, whose weights it shares.
    """
    if world_size() == 1:
        return model.to(device())
    return cast(ModuleT, fabric().setup_module(model))
