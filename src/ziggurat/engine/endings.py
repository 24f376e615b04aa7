"""What a run that ends before its time tells its user: what was saved, and how to go on."""

import shlex

from ziggurat.config.tree import TrainConfig
from ziggurat.engine.checkpoint_files import CheckpointFiles, verify_checkpoint
from ziggurat.engine.output import RunFolder
from ziggurat.errors import ZigguratError

LOST_WORKER = "DataLoader worker"
"""How torch begins to speak of a process that read data and is gone."""


def how_to_go_on(files: CheckpointFiles, folder: RunFolder) -> str:
    """Word the end of a run that was interrupted.

    Args:
        files: Its checkpoints.
        folder: Its folder.
    """
    if not files.newest.is_file():
        return "stopped before anything was there to save"
    # A second Ctrl-C saves nothing, so that the checkpoint may be an older one.
    return (
        f"stopped; {files.newest} is of {_step_of(files)}, "
        f"`ziggurat train --output {folder.path} --resume` goes on from there"
    )


def what_failed(files: CheckpointFiles, folder: RunFolder, error: OSError) -> str:
    """Word the end of a run that the system refused something.

    Args:
        files: Its checkpoints.
        folder: Its folder.
        error: What the system said.
    """
    place = f" ({error.filename})" if error.filename else ""
    reason = f"{error.strerror or error}{place}"
    if files.newest.is_file():
        return (
            f"the run in {folder.path} cannot go on: {reason}; what was saved before is "
            "unchanged, and --resume goes on from there"
        )
    return (
        f"the run in {folder.path} cannot begin: {reason}; nothing was saved, choose another "
        "--output or mend this and run again"
    )


def what_was_lost(files: CheckpointFiles, folder: RunFolder, error: RuntimeError) -> str:
    """Word the end of a run one of whose processes that read data is gone.

    Args:
        files: Its checkpoints.
        folder: Its folder.
        error: What torch said.
    """
    reason = str(error).split("\n")[0].strip().rstrip(".")
    saved = (
        f"the checkpoint of {_step_of(files)} remains, --resume goes on from there"
        if files.newest.is_file()
        else "nothing was saved yet"
    )
    return (
        f"the run in {folder.path} lost a process that reads data ({reason}), as happens where the "
        f"memory is full; {saved}; lower data.workers or data.batch_size, or free some memory"
    )


def what_did_not_fit(
    files: CheckpointFiles, folder: RunFolder, config: TrainConfig, error: RuntimeError
) -> str:
    """Word the end of a run whose step did not fit into the memory of its device.

    Args:
        files: Its checkpoints.
        folder: Its folder.
        config: The run.
        error: What torch said.
    """
    saved = (
        f"the checkpoint of {_step_of(files)} remains"
        if files.newest.is_file()
        else "nothing was saved yet"
    )
    advice = [
        "with a lower data.batch_size and a trainer.accumulate as many times higher, which keeps "
        "the images of a step"
    ]
    if config.trainer.precision in ("32", "tf32"):
        advice.append("with trainer.precision bf16, which --resume takes, too")
    if not config.trainer.checkpoint_activations:
        advice.append("with trainer.checkpoint_activations true")
    advice.append("with smaller images")
    return (
        f"a step of the run in {folder.path} does not fit into the memory of its device with "
        f"data.batch_size {config.data.batch_size} ({out_of_memory(error)}); {saved}; begin "
        f"anew {', or '.join(advice)}"
    )


def out_of_memory(error: RuntimeError) -> str:
    """Shorten what torch says of a full memory to what it asked for.

    Args:
        error: What torch said, in several sentences.
    """
    return ". ".join(str(error).split(". ")[:2]).rstrip(".")


def how_to_stay_finite(
    files: CheckpointFiles, folder: RunFolder, config: TrainConfig, error: ZigguratError
) -> str:
    """Word the end of a run that met numbers that are not finite.

    Args:
        files: Its checkpoints, all of weights that are finite.
        folder: Its folder.
        config: The run.
        error: What was found.
    """
    lower = max(config.optimizer.lr / 10, config.schedule.min_lr)
    words = ["ziggurat", "train", "--output", str(folder.path), "--resume"]
    if config.trainer.precision != "32":
        words += ["--trainer.precision", "32"]
    if lower < config.optimizer.lr:
        words += ["--optimizer.lr", f"{lower:g}"]
    place = f"the checkpoint of {_step_of(files)}" if files.newest.is_file() else "step 0"
    also = " (--trainer.clip_norm 1 may help, too)" if config.trainer.clip_norm is None else ""
    return f"{error}; `{shlex.join(words)}` goes on from {place}{also}"


def _step_of(files: CheckpointFiles) -> str:
    try:
        return f"step {verify_checkpoint(files.newest)}"
    except ZigguratError:  # --resume will say what it is
        return "an unknown step"
