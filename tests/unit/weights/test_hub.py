"""Models go to the hub and come back; the hub is a folder here."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from safetensors.torch import save_file

import ziggurat
from ziggurat.cards import MODELS
from ziggurat.errors import ZigguratError
from ziggurat.inference.predictor import find_weights
from ziggurat.preprocessing import CAFFE_PIXELS, FitInside
from ziggurat.weights import hub
from ziggurat.weights.hub import pull, push
from ziggurat.weights.model_card import PIPELINES, SHOWN_CLASSES, Results, model_card
from ziggurat.zoo import Model


@pytest.fixture(autouse=True, scope="module")
def listed_mini(p2t_mini: str) -> str:
    return p2t_mini


@pytest.fixture
def model() -> Model:
    model = ziggurat.create_model("p2t_mini", num_classes=3)
    model.classes = ("cell", "star", "tree")
    return model


class FolderHub:
    """Keeps repositories as folders, in place of the hub's client."""

    folder: Path
    asked: list[tuple[str, str, str | None]]
    is_private: bool | None = None
    error: Exception | None = None

    def create_repo(self, repository: str, *, private: bool, exist_ok: bool) -> str:
        assert exist_ok
        type(self).is_private = private
        if self.error is not None:
            raise self.error
        return f"https://huggingface.co/{repository}"

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        assert commit_message
        shutil.copytree(folder_path, self.folder / repo_id, dirs_exist_ok=True)


@pytest.fixture
def folder_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[FolderHub]:
    class Hub(FolderHub):
        folder = tmp_path / "hub"
        asked: list[tuple[str, str, str | None]] = []

    def download(
        repository: str, name: str, *, revision: str | None, local_files_only: bool
    ) -> str:
        if local_files_only:
            raise LocalEntryNotFoundError("it was not to be looked for elsewhere")
        Hub.asked.append((repository, name, revision))
        if Hub.error is not None:
            raise Hub.error
        return str(Hub.folder / repository / name)

    monkeypatch.setattr(hub, "HfApi", Hub)
    monkeypatch.setattr(hub, "hf_hub_download", download)
    return Hub


def test_what_was_pushed_comes_back(model: Model, folder_hub: type[FolderHub]) -> None:
    address = push(model, "user/shapes", licence="apache-2.0")
    assert address == "https://huggingface.co/user/shapes"
    assert folder_hub.is_private is False
    predictor = ziggurat.load("hf:user/shapes", device="cpu")
    assert predictor.classes == ("cell", "star", "tree")
    again = predictor.model.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())
    assert folder_hub.asked == [("user/shapes", "model.safetensors", None)]


def test_nothing_is_downloaded_offline(
    model: Model, folder_hub: type[FolderHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    push(model, "user/shapes", licence="apache-2.0")
    monkeypatch.setenv("ZIGGURAT_OFFLINE", "1")
    with pytest.raises(ZigguratError, match="not in the hub's cache .* ZIGGURAT_OFFLINE"):
        ziggurat.load("hf:user/shapes", device="cpu")
    assert not folder_hub.asked


def test_private_repositories_and_revisions(model: Model, folder_hub: type[FolderHub]) -> None:
    push(model, "user/shapes", licence="mit", is_private=True)
    assert folder_hub.is_private is True
    assert pull("hf:user/shapes@v2") == folder_hub.folder / "user/shapes/model.safetensors"
    assert folder_hub.asked[-1][2] == "v2"


def test_models_start_from_the_hub(model: Model, folder_hub: type[FolderHub]) -> None:
    push(model, "user/shapes", licence="mit")
    same = ziggurat.create_model("p2t_mini", num_classes=3, pretrained="hf:user/shapes")
    assert torch.equal(same.state_dict()["head.fc.weight"], model.state_dict()["head.fc.weight"])
    assert find_weights(Path("hf:user/shapes")).is_file()


def test_weights_of_another_program_are_explained(folder_hub: type[FolderHub]) -> None:
    (folder_hub.folder / "timm/x").mkdir(parents=True)
    save_file({"w": torch.ones(2)}, folder_hub.folder / "timm/x/model.safetensors")
    with pytest.raises(ZigguratError, match="holds weights of another program; give the path"):
        pull("hf:timm/x")


def response_error(kind: type[Exception]) -> Exception:
    """An error of the hub's client without the response that it usually holds."""
    error = kind.__new__(kind)
    Exception.__init__(error, "the first line\nand more")
    return error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (response_error(RepositoryNotFoundError), "the hub has no 'user/x', or it is private"),
        (response_error(EntryNotFoundError), "holds no model.safetensors; expected a repository"),
        (LocalEntryNotFoundError("not here"), "is not in the hub's cache and cannot be"),
        (HFValidationError("bad name"), r"cannot be pulled \(bad name\); expected hf:USER/NAME"),
        (OSError("no network"), r"cannot be pulled \(no network\)"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(
    error: Exception, message: str, folder_hub: type[FolderHub]
) -> None:
    folder_hub.error = error
    with pytest.raises(ZigguratError, match=message):
        pull("hf:user/x")


def test_a_refused_push_is_one_sentence(model: Model, folder_hub: type[FolderHub]) -> None:
    folder_hub.error = HFValidationError("bad name")
    with pytest.raises(ZigguratError, match=r"did not take 'a b' \(bad name\); check the name"):
        push(model, "a b", licence="mit")


def test_metrics_need_their_data(model: Model) -> None:
    with pytest.raises(ZigguratError, match="metrics and dataset go together"):
        push(model, "user/x", licence="mit", metrics={"top1": 0.5})
    with pytest.raises(ZigguratError, match="metrics and dataset go together"):
        push(model, "user/x", licence="mit", dataset="shapes")


def metadata(card: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(card.split("---")[1])
    return content


def test_card_says_what_the_hub_wants_to_know(model: Model) -> None:
    results = Results("Shapes val", {"top1": 0.512})
    card = model_card(model, "user/shapes", licence="apache-2.0", results=results)
    facts = metadata(card)
    assert facts["license"] == "apache-2.0"
    assert facts["library_name"] == "ziggurat"
    assert facts["pipeline_tag"] == "image-classification"
    result = facts["model-index"][0]["results"][0]
    assert result["dataset"]["name"] == "Shapes val"
    assert result["metrics"][0]["value"] == 0.512
    assert "| top1 | 51.2 |" in card
    assert 'ziggurat.load("hf:user/shapes")' in card
    assert "3 classes: cell, star, tree." in card
    assert "middle 224 x 224" in card


def test_card_without_results_and_of_a_detector() -> None:
    model = ziggurat.create_model("retinanet_p2t_mini", head_channels=8, head_depth=1)
    card = model_card(model, "user/finder", licence="mit", results=None)
    assert "model-index" not in metadata(card)
    assert metadata(card)["pipeline_tag"] == "object-detection"
    assert "No results were given." in card
    assert f"class_{SHOWN_CLASSES - 1}, ..." in card
    assert "sides padded to multiples of 32" in card


def test_card_of_a_segmenter() -> None:
    model = ziggurat.create_model("segformer", backbone="p2t_mini", num_classes=3, head_channels=8)
    card = model_card(model, "user/streets", licence="mit", results=None)
    assert metadata(card)["pipeline_tag"] == "image-segmentation"
    assert "resized to fit in 2048 x 512 pixels, sides enlarged to multiples of 32" in card


def test_every_task_has_its_name_on_the_hub() -> None:
    assert set(PIPELINES) == {model.task for model in MODELS.values()}


def test_a_card_tells_of_levels_blue_first() -> None:
    model = ziggurat.create_model("retinanet_p2t_mini", head_channels=8, head_depth=1)
    model.preprocessing = FitInside(**dataclasses.asdict(CAFFE_PIXELS))
    card = model_card(model, "user/finder", licence="mit", results=None)
    assert (
        "BGR from 0 to 255, mean (102.9801, 115.9465, 122.7717), deviation (1.0, 1.0, 1.0)." in card
    )
