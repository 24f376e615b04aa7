"""The catalogue states what sources state, and is whole."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ziggurat import zoo
from ziggurat.backbones.resnet_dense import SAME_WEIGHTS
from ziggurat.cards import MODELS
from ziggurat.metrics.classification import ClassificationMetric, ClassificationState
from ziggurat.metrics.coco import count_report
from ziggurat.metrics.coco_results import read_results
from ziggurat.metrics.coco_truth import read_truth
from ziggurat.metrics.segmentation import SegmentationMetric
from ziggurat.preprocessing import FitAligned, FitInside
from ziggurat.systems import SYSTEMS
from ziggurat.types import LabelMap
from ziggurat.weights import gpvit, p2t, pvt
from ziggurat.weights.catalogue import FILES, files_for, is_buildable
from ziggurat.weights.published_file import PublishedFile

GPVIT_RUNS = (
    "in1k_300e",
    "maskrcnn_1x",
    "maskrcnn_3x",
    "retinanet_1x",
    "retinanet_3x",
    "segformer",
    "upernet",
)


DETECTORS = [
    file
    for file in FILES.values()
    if file.task in ("detection", "instance_segmentation")
    and any(file.model.startswith(f"{system}_") for system in SYSTEMS)
]


def test_names_are_unique() -> None:
    tables = (*pvt.FILES, *p2t.FILES, *gpvit.FILES)
    assert len({file.name for file in tables}) == len(tables)
    assert len(FILES) == 137


@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
def test_every_file_says_where_it_is_and_what_to_do(file: PublishedFile) -> None:
    assert (file.url is None) != (file.page is None)
    for address in (file.url, file.page, file.source):
        assert address is None or address.startswith("https://")
    assert file.name in file.how_to_get
    assert (file.url or file.page or "?") in file.how_to_get
    assert file.preprocessing
    assert all(0 < value < 100 for _, value in file.metrics)
    assert file.sha256_prefix is None or re.fullmatch("[0-9a-f]{8,64}", file.sha256_prefix)
    # A name in the cache must not lead out of it.
    assert re.fullmatch(r"[\w.-]+\.(pth|pdparams|pkl|safetensors)", file.name)


@pytest.mark.parametrize("name", MODELS)
def test_cards_and_files_state_the_same_accuracy(name: str) -> None:
    stated = [dict(file.metrics) for file in files_for(name) if file.metrics]
    number = re.match(r"[\d.]+", MODELS[name].published)
    if number is None or not stated:  # nobody published weights with a number
        assert not stated
    elif name.startswith("topformer"):  # measured anew by those who converted them
        numbers = [value for metrics in stated for value in metrics.values()]
        assert min(abs(value - float(number[0])) for value in numbers) < 0.3
    else:
        assert float(number[0]) in stated[0].values()


@pytest.mark.parametrize("file", DETECTORS, ids=lambda file: file.name)
def test_published_detectors_have_cards_with_all_their_numbers(file: PublishedFile) -> None:
    card, metrics = MODELS[file.model], dict(file.metrics)
    assert f"{metrics['AP']} box AP" in card.published
    assert "mask_AP" not in metrics or f"{metrics['mask_AP']} mask AP" in card.published
    assert is_buildable(file)


def _numbers_of_objects(folder: Path) -> dict[str, float]:
    """What a metric of boxes and masks reports of one image."""
    truth: dict[str, Any] = {
        "images": [{"id": 1, "height": 2, "width": 2}],
        "annotations": [],
        "categories": [{"id": 5, "name": "cell"}],
    }
    mask = {"size": [2, 2], "counts": [0, 4]}
    entry = {"image_id": 1, "category_id": 5, "score": 0.5, "bbox": [0, 0, 2, 2]}
    file = folder / "detections.json"
    file.write_text(json.dumps([entry | {"segmentation": mask}]))
    known = read_truth(truth, with_masks=True)
    found = read_results(file).objects(known)
    return count_report(known, found, [5], ["cell"], ("boxes", "masks")).numbers


def test_metrics_have_the_names_that_are_measured(tmp_path: Path) -> None:
    classes, pixels = ClassificationMetric(["cell"]), SegmentationMetric(["cell"])
    classes.merge([ClassificationState(np.ones((1, 1), dtype=np.int64), num_in_top5=1)])
    labels = LabelMap(torch.zeros(2, 2, dtype=torch.int64))
    pixels.add(labels, labels, image_id=1, path="")
    objects = _numbers_of_objects(tmp_path).keys()
    reported = {
        "classification": classes.compute().numbers.keys(),
        "detection": {name for name in objects if not name.startswith("mask_")},
        "instance_segmentation": objects,
        "semantic_segmentation": pixels.compute().numbers.keys(),
    }
    for file in FILES.values():
        assert dict(file.metrics).keys() <= reported[file.task], file.name


@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
def test_limits_are_those_that_the_preprocessing_names(file: PublishedFile) -> None:
    if file.task == "classification":
        assert file.limits is None
        return
    usual = FitAligned() if file.task == "semantic_segmentation" else FitInside()
    short_side, long_side = file.limits or (usual.short_side, usual.long_side)
    assert file.preprocessing.startswith(f"inside {long_side} x {short_side}, ")


def test_files_of_smaller_images() -> None:
    assert {file.name: file.limits for file in FILES.values() if file.limits} == {
        "retinanet_pvt_s_fpn_1x_coco_640.pth": (640, 1066),
        "topformer_tiny_448x448_2x8_160k_ade20k.pth": (448, 2048),
        "topformer_tiny_448x448_4x8_160k_ade20k.pth": (448, 2048),
    }


def test_addresses_of_the_releases() -> None:
    for size in ("l1", "l2", "l3", "l4"):
        for run in GPVIT_RUNS:
            assert FILES[f"gpvit_{size}_{run}.pth"].url == (
                "https://github.com/ChenhongyiYang/GPViT/releases/download/v0.0.1/"
                f"gpvit_{size}_{run}.pth"
            )
    assert FILES["pvt_v2_b0.pth"].url == (
        "https://github.com/whai362/PVT/releases/download/v2/pvt_v2_b0.pth"
    )
    assert FILES["topformer_tiny_ade20k_512x512_160k.pdparams"].url == (
        "https://paddleseg.bj.bcebos.com/dygraph/ade20k/"
        "topformer_tiny_ade20k_512x512_160k/model.pdparams"
    )


def test_addresses_of_detectron() -> None:
    server = "https://dl.fbaipublicfiles.com/detectron/ImageNetPretrained"
    assert FILES["R-50.pkl"].url == f"{server}/MSRA/R-50.pkl"
    assert FILES["R-101-GN.pkl"].url == f"{server}/47592356/R-101-GN.pkl"
    blobs = [file.url for file in FILES.values() if file.name.endswith(".pkl")]
    assert len(blobs) == 7
    assert all(url is not None and url.startswith(server) for url in blobs)


def test_files_of_a_model_begin_with_those_that_can_be_downloaded() -> None:
    assert [file.name for file in files_for("pvt_v2_b0")] == [
        "pvt_v2_b0.pth",
        "pvt_v2_b0.in1k.safetensors",
    ]
    authors, torchvision = FILES["resnet50_caffe.pth"], FILES["resnet50-0676ba61.pth"]
    assert files_for("resnet50")[0] is torchvision
    assert files_for("resnet50_caffe") == [FILES["R-50.pkl"], authors]
    assert files_for("no_such_model") == []


def test_what_no_weight_shows_has_no_files_of_its_own() -> None:
    assert files_for("resnet50_d8") == files_for("resnet50_frozen") == files_for("resnet50")
    assert files_for("resnet101_caffe_dc5") == files_for("resnet101_caffe")
    for name, other in SAME_WEIGHTS.items():
        with torch.device("meta"):
            shapes, others = (
                [
                    value.shape
                    for key, value in zoo.create_backbone(each).state_dict().items()
                    if "num_batches_tracked" not in key
                ]
                for each in (name, other)
            )
        assert shapes and files_for(name)
        assert sorted(shapes) == sorted(others)


def test_buildable_is_what_the_zoo_builds() -> None:
    assert is_buildable(FILES["p2t_tiny.pth"])
    assert is_buildable(FILES["retinanet_p2t_t_fpn_1x_coco.pth"])
    assert is_buildable(FILES["gpvit_l1_upernet.pth"])
    assert not is_buildable(FILES["X-101-64x4d.pkl"])
    assert not is_buildable(replace(FILES["p2t_tiny.pth"], model="no_such_model"))
    for name in zoo.TRUNKS:
        assert all(is_buildable(file) for file in files_for(name))


def test_numbers_in_words() -> None:
    assert FILES["pvt_small.pth"].published == "79.8 top1, 94.95 top5, ImageNet-1k val"
    assert FILES["R-50.pkl"].published == "no number stated"
    assert FILES["R-50-GN.pkl"].published == "76.0 top1, ImageNet-1k val"
    assert FILES["gpvit_l1_maskrcnn_1x.pth"].published == "48.1 AP, 42.7 mask AP, COCO val2017"
