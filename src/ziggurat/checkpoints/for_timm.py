"""Write weights that timm reads, for the models that timm has as well."""

from pathlib import Path

from safetensors.torch import save
from torch import nn

from ziggurat.checkpoints.atomic import atomic_write
from ziggurat.checkpoints.native import require_safetensors_name
from ziggurat.checkpoints.pvt_v2 import to_timm


def save_for_timm(model: nn.Module, path: str | Path) -> None:
    """Write a file for `timm.create_model(..., checkpoint_path=...)`, whole or not at all.

    A model that timm does not have, or a place that cannot be written, is a `ZigguratError`.

    Args:
        model: A PVT v2 classifier, or a bare backbone, which gives timm's model without its head.
        path: A file whose name ends in .safetensors.
    """
    require_safetensors_name(path)
    tensors = {name: value.detach().cpu().contiguous() for name, value in to_timm(model).items()}
    content = save(tensors, metadata={"format": "pt"})
    atomic_write(path, lambda file: file.write(content))
