"""Which of the processes that torchrun or srun started together this one is."""

import os
import shlex
import sys
from typing import NamedTuple


class RankError(ValueError):
    """Another rank of the launch has failed, and has said why."""


class Launch(NamedTuple):
    """Where this process stands among those that torchrun or srun started together.

    Attributes:
        rank: number of this process; 0 writes files.
        world_size: processes on all machines.
        local_rank: number of this process on its machine, and so its device.
        per_node: processes on each machine.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    per_node: int = 1

    @property
    def nodes(self) -> int:
        return self.world_size // self.per_node


# The mark of a launcher, then what it calls the four numbers of `Launch`. torchrun goes
# first: it runs inside SLURM jobs too. Only srun sets the STEP variables, in what it
# starts; the job's own SLURM_NTASKS is what a script in it may start.
_LAUNCHERS = {
    "TORCHELASTIC_RUN_ID": ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    "SLURM_STEP_ID": (
        "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID",
        "SLURM_NTASKS_PER_NODE",
    ),
}  # fmt: skip


def launch() -> Launch:
    """What torchrun or srun says of this process.

    Raises:
        ValueError: a variable is missing, or machines have unequal numbers of
            processes.
    """
    for mark, names in _LAUNCHERS.items():
        if mark not in os.environ or os.environ.get(names[1], "1") == "1":
            continue
        missing = [name for name in names if not os.environ.get(name, "").isdigit()]
        if missing:
            raise ValueError(
                f"{missing[0]} is not set in a launch of {os.environ[names[1]]} "
                "processes: use torchrun, or srun with --ntasks-per-node"
            )
        found = Launch(*(int(os.environ[name]) for name in names))
        if found.world_size % found.per_node:
            raise ValueError(
                f"{names[1]} = {found.world_size} is no multiple of {names[3]} = "
                f"{found.per_node}: start as many processes on each machine"
            )
        return found
    return Launch()


def relaunch(module: str) -> None:
    """Become what MENDMRI_LAUNCH says, such as `torchrun --nproc-per-node 4`.

    DVC starts a stage as one process. With the variable set, that process turns into
    the launcher, which starts the same stage with the same arguments once per device.
    """
    words = shlex.split(os.environ.pop("MENDMRI_LAUNCH", ""))
    if not words or launch().world_size > 1:
        return
    try:
        os.execvp(words[0], [*words, "-m", module, *sys.argv[1:]])
    except OSError as error:
        raise SystemExit(
            f"MENDMRI_LAUNCH: '{words[0]}' cannot be run: {error.strerror}"
        ) from None
