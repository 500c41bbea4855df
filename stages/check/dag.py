"""The stages of dvc.yaml as DVC sees them."""

import json
import logging
from contextlib import suppress
from pathlib import Path

from dvc.lock import LockError, make_lock
from dvc.repo import Repo, lock_repo
from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK

log = logging.getLogger(__name__)


class Pipeline:
    """The stages as DVC sees them.

    Attributes:
        upstream: stage -> the stages it waits for.
    """

    def __init__(self) -> None:
        self._repo = Repo(_wait_for_lock=True)
        with lock_repo(self._repo):
            graph = self._repo.index.graph
            self._stages = {stage.addressing: stage for stage in graph}
            self.upstream = {
                stage.addressing: {above.addressing for above in graph[stage]}
                for stage in graph
            }

    def changed(self, name: str) -> bool:
        """Whether DVC would run a stage, now that its upstream is up to date."""
        stage = self._stages[name]
        with lock_repo(self._repo):
            try:
                return bool(stage.changed())
            except LockError:
                return True  # another process works on its files: a worker waits

    def drop_broken_lock(self) -> None:
        """Remove the list of files in use if a killed DVC process left half of it.

        DVC writes it in place, and would then refuse every command. DVC's own guard of
        it tells that half from one which another process is writing right now.
        """
        path = Path(self._repo.tmp_dir, RWLOCK_FILE)
        guard = make_lock(
            str(path.with_name(RWLOCK_LOCK)),
            tmp_dir=self._repo.tmp_dir,
            hardlink_lock=self._repo.config["core"].get("hardlink_lock", False),
        )
        # Whoever keeps the guard for seconds finishes what it writes.
        with suppress(FileNotFoundError, LockError), guard:
            try:
                json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                log.warning("%s was cut off and is removed", path)
                path.unlink()
