"""A DVC project of trivial stages, and the runner in it as `make repro` starts it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


class Toy:
    """A folder with a dvc.yaml whose stages are shell commands."""

    def __init__(self, root: Path, stages: dict) -> None:
        from dvc.repo import Repo

        root.mkdir(exist_ok=True)
        Repo.init(str(root), no_scm=True).close()
        self.root = root
        self.env = os.environ | {
            "PYTHONPATH": str(ROOT),
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(root / ".site"),
        }
        self.define(stages)

    def define(self, stages: dict) -> None:
        (self.root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))

    def start(
        self, *options: str, jobs: int = 2, log: str = "log.txt"
    ) -> "subprocess.Popen[bytes]":
        """Start the runner; what it says goes to a file."""
        runner = ("-m", "stages.check.parallel", "--jobs", str(jobs))
        with (self.root / log).open("wb") as file:
            return subprocess.Popen(
                [sys.executable, *runner, *options],
                cwd=self.root,
                env=self.env,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def run(self, *options: str, jobs: int = 2, code: int = 0) -> str:
        """Run the pipeline to its end; return what was said."""
        process = self.start(*options, jobs=jobs)
        assert process.wait(timeout=300) == code, self.read("log.txt")
        return self.read("log.txt")

    def read(self, name: str) -> str:
        return (self.root / name).read_text()

    @property
    def recorded(self) -> set[str]:
        """Stages in dvc.lock; an unreadable one is an error."""
        return set(yaml.safe_load(self.read("dvc.lock"))["stages"])

    def status(self) -> dict:
        command = [sys.executable, "-m", "dvc", "status", "--json"]
        text = subprocess.check_output(command, cwd=self.root, env=self.env, text=True)
        return json.loads(text)


def stage(cmd: str, *, deps: tuple[str, ...] = (), outs: tuple[str, ...]) -> dict:
    return {"cmd": cmd, "deps": list(deps), "outs": list(outs)}


# top -> (left, right) -> bottom; the two in the middle wait for each other, and so end
# only when they run side by side.
MEET = (
    "touch {0}.here; for i in $(seq 300); do test -e {1}.here && break; sleep 0.1; done"
)
DIAMOND = {
    "top": stage("cat seed > top", deps=("seed",), outs=("top",)),
    "left": stage(
        f"{MEET.format('left', 'right')}; test -e right.here && cat top > left",
        deps=("top",), outs=("left",),
    ),
    "right": stage(
        f"{MEET.format('right', 'left')}; test -e left.here && cat top > right",
        deps=("top",), outs=("right",),
    ),
    "bottom": stage(
        "cat left right > bottom", deps=("left", "right"), outs=("bottom",),
    ),
}  # fmt: skip
