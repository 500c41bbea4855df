"""The stages of dvc.yaml as DVC sees them."""

from dvc.lock import LockError
from dvc.repo import Repo, lock_repo


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
