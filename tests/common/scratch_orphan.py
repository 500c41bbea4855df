"""Two programs for the scratch tests, run from a folder that plays the project.

`parent` plays DVC: it starts a worker and waits for it. `work <name>` plays the stage:
it counts how often the work was really done, and tells by files how far it has come.

    python -m tests.common.scratch_orphan parent
    python -m tests.common.scratch_orphan work second
"""

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
    if sys.argv[1] == "parent":
        worker = [sys.executable, "-m", __spec__.name, "work", "first"]
        subprocess.run(worker, check=True)
    else:
        work(sys.argv[2])
