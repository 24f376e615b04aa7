"""Push a model to the Hugging Face hub with a card, and pull one from there.

A repository holds `model.safetensors`, ziggurat's own format, which says itself which model it is:
pulling runs nothing but ziggurat. The hub's own library does the transfers, since it knows its
tokens, caches, proxies and offline mode.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ziggurat.checkpoints.native import is_native, save_weights
from ziggurat.errors import ZigguratError
from ziggurat.weights.cache import is_offline
from ziggurat.weights.model_card import Results, model_card
from ziggurat.zoo import Model

HUB_PREFIX = "hf:"
WEIGHTS = "model.safetensors"
CARD = "README.md"


def push(
    model: Model,
    repository: str,
    *,
    licence: str,
    dataset: str | None = None,
    metrics: Mapping[str, float] | None = None,
    is_private: bool = False,
) -> str:
    """Upload a model with a card that says what it is, how good it is and how to use it.

    Who may write is decided by the token of `hf auth login` or `HF_TOKEN`.

    Args:
        model: The model, with its classes and its preprocessing.
        repository: "USER/NAME"; it is made if it does not exist.
        licence: Licence of the weights by its name on the hub, for example "apache-2.0". Weights
            that started from published ones are bound by theirs.
        dataset: What the metrics were measured on.
        metrics: Name and value of each metric, as fractions, for instance `Report.numbers`.
        is_private: Whether a new repository is for its owner alone.

    Returns:
        Address of the repository.

    Raises:
        ZigguratError: If metrics come without their data set, or the hub refuses.
    """
    if (dataset is None) != (not metrics):
        raise ZigguratError(
            "metrics and dataset go together: give the numbers and what they were measured on, or "
            "neither"
        )
    results = None if dataset is None or not metrics else Results(dataset, metrics)
    card = model_card(model, repository, licence=licence, results=results)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_weights(model, folder / WEIGHTS)
        (folder / CARD).write_text(card, encoding="utf-8")
        try:
            api = HfApi()
            address = api.create_repo(repository, private=is_private, exist_ok=True)
            api.upload_folder(
                repo_id=repository, folder_path=folder, commit_message=f"{model.identity.name}"
            )
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            raise ZigguratError(
                f"the hub did not take {repository!r} ({_first_line(error)}); check the name, the "
                "connection, and the token with `hf auth whoami`"
            ) from error
    return str(address)


def pull(name: str) -> Path:
    """Return the path of weights from the hub, which are kept in the hub's cache.

    Args:
        name: "hf:USER/NAME", or "hf:USER/NAME@REVISION".

    Raises:
        ZigguratError: If there is no such repository, it cannot be reached, or it holds no weights
            of ziggurat.
    """
    repository, _, revision = name.removeprefix(HUB_PREFIX).partition("@")
    try:
        path = Path(
            hf_hub_download(
                repository, WEIGHTS, revision=revision or None, local_files_only=is_offline()
            )
        )
    except LocalEntryNotFoundError as error:
        raise ZigguratError(
            f"{name} is not in the hub's cache and cannot be downloaded ({_first_line(error)}); "
            "check the connection, and ZIGGURAT_OFFLINE and HF_HUB_OFFLINE"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ZigguratError(
            f"the hub has no {name.removeprefix(HUB_PREFIX)!r}, or it is private; check the name, "
            "and log in with `hf auth login` if it is yours"
        ) from error
    except EntryNotFoundError as error:
        raise ZigguratError(
            f"{name} holds no {WEIGHTS}; expected a repository that `ziggurat.push` made"
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ZigguratError(
            f"{name} cannot be pulled ({_first_line(error)}); expected {HUB_PREFIX}USER/NAME"
        ) from error
    if not is_native(path):
        raise ZigguratError(
            f"{name} holds weights of another program; give the path {path} and the name of the "
            "model to `ziggurat.create_model(..., pretrained=path)`"
        )
    return path


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
