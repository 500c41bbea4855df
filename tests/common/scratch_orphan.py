"""Programs for the scratch tests, run from a folder that plays the project.

`work <name>` plays the stage: it counts how often the work was really done, and tells
by files how far it has come. `dvc <command>` and `terminal <command>` play those who
start it, and live on until the first one has ended.

    python -m tests.common.scratch_orphan work second
    python -m tests.common.scratch_orphan dvc python -m tests.common.scratch_orphan ...
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from stages.common.scratch import cell_scratch

DEADLINE = 60.0


def wait_for(path: Path) -> None:
    end = time.monotonic() + DEADLINE
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError(path)
        time.sleep(0.02)


def work(name: str) -> None:
    with cell_scratch("oracle-0", inputs=[Path("input")], settings=[1]) as folder:
        Path(f"{name}.inside").touch()
        if not (folder / "result").exists():
            with Path("done.txt").open("a") as file:
                file.write(f"{name}\n")
            if name == "first":
                wait_for(Path("go on"))
            (folder / "result").touch()
    Path(f"{name}.ended").touch()


if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    if role == "work":
        work(arguments[0])
    else:
        marks = {"DVC_STAGE": "train_oracle@0"} if role == "dvc" else {}
        subprocess.run(arguments, env=os.environ | marks, check=False)
        wait_for(Path("first.ended"))  # other stages of the same `dvc repro`
