"""The catalogue states what sources state, and is whole."""

import re
from dataclasses import replace

import pytest
import torch

from ziggurat import zoo
from ziggurat.backbones.resnet_dense import SAME_WEIGHTS
from ziggurat.cards import MODELS
from ziggurat.systems import SYSTEMS
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
    assert "mask AP" not in metrics or f"{metrics['mask AP']} mask AP" in card.published
    assert is_buildable(file)


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
