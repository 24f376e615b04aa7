"""Fully sharded data parallel: each process keeps its part of weights, gradients and optimizer.

The checkpoint and the weight files are whole all the same: one process writes them.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FullyShardedDataParallel, OptimStateKeyType, fully_shard
from torch.nn import ModuleList

from ziggurat.zoo import Model


class FullySharded(ModelParallelStrategy):
    """Lightning's strategy with a part for every process, and with checkpoints in one file."""

    def __init__(self) -> None:
        super().__init__(save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """Give every process a part of every tensor."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        self._tensor_parallel_size = 1
        super().setup_environment()

    def shard(self, model: Model) -> None:
        """Divide the parameters of a model among the processes, in place.

        Args:
            model: Each of its blocks is put together when it is its turn, the rest at once.
        """
        mesh = self.device_mesh["data_parallel"]
        model.to(memory_format=torch.contiguous_format)  # torch divides no other layout
        for name, blocks in model.backbone.named_modules():
            if name.rpartition(".")[2] == "blocks" and isinstance(blocks, ModuleList):
                for block in blocks:
                    fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)

    def load_checkpoint(
        self, checkpoint_path: str | Path, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint as other strategies do, and give each process its part.

        Args:
            checkpoint_path: File to read.
            weights_only: Anything but False.
        """
        content = self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only)
        options = StateDictOptions(full_state_dict=True)
        assert self.model is not None
        set_model_state_dict(self.model, content["state_dict"], options=options)
        for optimizer, state in zip(self.optimizers, content["optimizer_states"], strict=True):
            named = FullyShardedDataParallel.rekey_optim_state_dict(
                state, OptimStateKeyType.PARAM_NAME, self.model
            )
            set_optimizer_state_dict(self.model, optimizer, named, options=options)
        return content


class WholeModel:
    """A copy of a sharded model that is whole on every process, to validate and to save.

    Args:
        source: The model before it is sharded.
    """

    def __init__(self, source: Model) -> None:
        self._source = source
        self._copy = copy.deepcopy(source)

    def gather(self) -> Model:
        """Return the model with the weights of now; all processes must ask for it together."""
        state = get_model_state_dict(self._source, options=StateDictOptions(full_state_dict=True))
        self._copy.to(next(self._source.parameters()).device)
        self._copy.load_state_dict(state)
        return self._copy
