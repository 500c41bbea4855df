"""Copy the project into a folder of its own, with another profile.

For a run that must not touch the user's `params.yaml`, `dvc.lock`, metrics or data:
what git would commit is copied, the results are not.

Input: the files of the project that git does not ignore.
Output: the folder, made anew, with its own git repository and `params.yaml`.

    python -m stages.check.sandbox .scratch/smoke --profile smoke
"""

import argparse
import logging
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from stages.check.profile import render
from stages.common.params import PARAMS_FILE
from stages.common.volume import write_text

MARK = ".sandbox"
RESULTS = ("dvc.lock", "metrics/")

log = logging.getLogger(__name__)


def make_sandbox(root: Path, target: Path, *, profile: str, seed: int = 0) -> int:
    """Copy the project; return the number of files copied.

    Args:
        root: of the project.
        target: folder to make.
        profile: for its `params.yaml`.
        seed: added to the seeds of training and unlearning.

    Raises:
        ValueError: `target` exists and is no sandbox, so it must not be deleted; or the
            project is not in git.
    """
    params = render(profile, seed=seed)
    names = [name for name in _files(root) if not name.startswith(RESULTS)]
    if target.exists():
        if not (target / MARK).exists():
            raise ValueError(f"{target} is no earlier copy: remove it yourself first")
        shutil.rmtree(target)
    write_text(target / MARK, "Made anew by the next run; keep nothing here.\n")
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / name, target / name)
    write_text(target / PARAMS_FILE, params)
    # DVC asks for a repository of its own at the root it works in.
    subprocess.run(["git", "init", "--quiet", str(target)], check=True)
    return len(names)


def refresh_sandbox(root: Path, target: Path, *, profile: str, seed: int = 0) -> int:
    """Bring a sandbox up to the project's files, or make it; its results stay.

    Args: as `make_sandbox`.

    Returns:
        The number of files of the project.

    Raises:
        ValueError: as `make_sandbox`.
    """
    if not (target / MARK).exists():
        return make_sandbox(root, target, profile=profile, seed=seed)
    params = render(profile, seed=seed)
    names = {name for name in _files(root) if not name.startswith(RESULTS)}
    for name in _files(target):
        if name not in names and not name.startswith((*RESULTS, MARK, ".dvc/")):
            (target / name).unlink()
    for name in names - {str(PARAMS_FILE)}:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / name, target / name)
    write_text(target / PARAMS_FILE, params)
    return len(names)


def _files(root: Path) -> list[str]:
    """What git tracks or would track, and is there."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=root, capture_output=True, check=False)
    if listing.returncode:
        reason = listing.stderr.decode(errors="replace").strip()
        raise ValueError(f"git could not list the project's files: {reason}")
    names = dict.fromkeys(listing.stdout.decode().split("\0"))
    return [name for name in names if name and (root / name).is_file()]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.check.sandbox")
    parser.add_argument("target", type=Path, help="folder to make")
    parser.add_argument("--profile", required=True)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        count = make_sandbox(Path(), args.target, profile=args.profile)
    except ValueError as error:
        log.error("%s", error)
        raise SystemExit(2) from None
    log.info("%s: %d files, profile '%s'", args.target, count, args.profile)


if __name__ == "__main__":
    main()
