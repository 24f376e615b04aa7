"""The folder of a run: what lies where, and whether a run may begin or go on there."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ziggurat.checkpoints.atomic import atomic_write
from ziggurat.config.files import load_run, run_to_tree, run_to_yaml
from ziggurat.config.tree import ClassificationRun, TrainConfig
from ziggurat.data.remote_shards import remote_url
from ziggurat.errors import ZigguratError
from ziggurat.pretrained import is_path

MAY_CHANGE = {
    "data.root",
    "data.workers",
    "data.eval_batch_size",
    "data.max_bad_files",
    "optimizer.lr",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.max_minutes",
    "trainer.precision",
    "trainer.accelerator",
    "trainer.clip_norm",
    "trainer.val_every_epochs",
    "trainer.val_every_steps",
    "trainer.save_every_minutes",
    "trainer.keep_checkpoints",
    "trainer.log_every_steps",
    "trainer.keep_memory",
}
"""Fields that a resumed run may set anew: they decide where, how long and how often, not what; and
those that help a run on that met numbers that are not finite."""


LOCK_FILE = ".lock"
"""Held by the run that writes into its folder, as long as its process lives."""


@dataclass(frozen=True)
class RunFolder:
    """Files of a run.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def run_file(self) -> Path:
        """The resolved run."""
        return self.path / "run.yaml"

    @property
    def checkpoints(self) -> Path:
        """Folder of what the run goes on from."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """Weights of the best validation."""
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        """Weights of the last checkpoint."""
        return self.path / "last.safetensors"

    @property
    def metrics(self) -> Path:
        """Numbers of the best and of the last validation."""
        return self.path / "metrics.json"

    @property
    def holds_run(self) -> bool:
        """Whether a run has begun here that can be gone on with."""
        return self.run_file.is_file()

    def write_run(self, config: TrainConfig) -> None:
        """Write the resolved run, whole or not at all: without it nothing can be resumed.

        Args:
            config: The run.
        """
        content = run_to_yaml(config).encode()
        atomic_write(self.run_file, lambda file: file.write(content))

    def check_new(self) -> None:
        """Raise if a run has already begun here, which would be overwritten.

        Raises:
            ZigguratError: If so, or if the path is a file.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ZigguratError(f"--output {self.path} is a file; expected a folder for the run")
        files = (self.run_file, self.best, self.last, self.metrics)
        if any(file.exists() for file in files) or any(self.checkpoints.glob("*.ckpt")):
            raise ZigguratError(
                f"--output {self.path} already holds a run; add --resume to go on with it, or "
                "choose another folder"
            )

    @contextlib.contextmanager
    def claimed(self, *, is_new: bool) -> Iterator[None]:
        """Keep other runs out of the folder while one writes into it.

        Where files cannot be locked, as on some network disks, nothing is kept out.

        Args:
            is_new: Whether the run begins here, so that no other may have begun in the meantime.

        Raises:
            ZigguratError: If another one writes into it, or has begun.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / LOCK_FILE)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise ZigguratError(
                f"another run is writing into {self.path}; wait for its end or stop it, or choose "
                "another --output"
            ) from error
        except (OSError, NotImplementedError):
            pass
        try:
            if is_new:
                self.check_new()
            yield
        finally:
            lock.release()

    def check_resumable(self, config: TrainConfig) -> list[str]:
        """Raise unless a run that began here can go on with this configuration.

        Args:
            config: The run as it is asked for now.

        Returns:
            What changes from here on, a line each.

        Raises:
            ZigguratError: If there is no run, or if what it trains has changed.
        """
        if not self.holds_run:
            raise ZigguratError(
                f"--output {self.path} holds no run to resume: there is no {self.run_file}; "
                "leave --resume out to begin one"
            )
        before, now = run_to_tree(load_run(self.run_file)), run_to_tree(config)
        if before["task"] != now["task"]:
            raise ZigguratError(
                f"the run in {self.path} does {before['task']}, it cannot go on with {now['task']}"
            )
        changes = []
        for section, fields in before.items():
            for name in fields if isinstance(fields, dict) else ():
                key, was, wanted = f"{section}.{name}", fields[name], now[section][name]
                if was == wanted:
                    continue
                if key not in MAY_CHANGE:
                    raise ZigguratError(
                        f"{key} was {was!r} when the run in {self.path} began and cannot become "
                        f"{wanted!r} on --resume; begin a new run for that"
                    )
                changes.append(f"{key} was {was!r} and is {wanted!r} from here on")
        return changes

    def check_may_begin(self) -> None:
        """Raise if weights of a run lie here whose checkpoints are gone.

        Raises:
            ZigguratError: If so: beginning again at step 0 would overwrite them.
        """
        for weights in (self.last, self.best):
            if weights.exists():
                raise ZigguratError(
                    f"the run in {self.path} cannot go on: there is {weights.name}, but no "
                    f"checkpoint in {self.checkpoints}; put its last.ckpt back, or begin a new "
                    f"run in another --output, with --model.weights {weights} to start from these "
                    "weights"
                )


def with_absolute_paths(config: TrainConfig) -> TrainConfig:
    """Return the run with data and weights that are found from anywhere."""
    root = config.data.root if remote_url(Path(config.data.root)) else _absolute(config.data.root)
    data = dataclasses.replace(config.data, root=root)
    model = dataclasses.replace(
        config.model,
        weights=_absolute_or_none(config.model.weights),
        backbone_weights=_absolute_or_none(config.model.backbone_weights),
    )
    if isinstance(config, ClassificationRun):
        teacher = config.distillation.teacher
        if config.distillation.is_file:
            teacher = _absolute_or_none(teacher)
        weights = _absolute_or_none(config.distillation.weights)
        distillation = dataclasses.replace(config.distillation, teacher=teacher, weights=weights)
        config = dataclasses.replace(config, distillation=distillation)
    return dataclasses.replace(config, data=data, model=model)  # type: ignore[arg-type]  # its own kind of data


def _absolute_or_none(weights: str | None) -> str | None:
    return _absolute(weights) if weights is not None and is_path(weights) else weights


def _absolute(path: str) -> str:
    return str(Path(os.path.expanduser(path)).absolute())
