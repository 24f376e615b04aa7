"""Layers of a backbone: which learn slower, which not at all."""

from pathlib import Path

import pytest
import torch
from torch import nn

from ziggurat.config import OptimizerConfig, load_run
from ziggurat.engine.depth import freeze_norms, freeze_stages, layer_factors
from ziggurat.engine.model import prepare_model
from ziggurat.engine.optimizer import build_optimizer
from ziggurat.errors import ZigguratError
from ziggurat.fast.training import LeanBlock
from ziggurat.fast.training_kernel import load_training_kernel
from ziggurat.necks.fpt import find_transformer
from ziggurat.zoo import TRUNKS, Model, create_model


def on_meta(name: str, backbone: str | None = None) -> Model:
    with torch.device("meta"):
        return create_model(name, backbone=backbone)


def exponents(model: Model) -> dict[str, float]:
    """Layers between each parameter and the heads."""
    factors = layer_factors(model, 0.5)
    assert set(factors) == {name for name, _ in model.named_parameters()}
    return {name: -torch.tensor(factor).log2().item() for name, factor in factors.items()}


def test_a_block_is_a_layer_and_the_stem_the_first() -> None:
    # P2T-Tiny has 2 + 2 + 6 + 3 = 13 blocks: the head is layer 14, the stem layer 0.
    layers = exponents(on_meta("p2t_tiny"))
    expected = {
        "head.fc.weight": 0,
        "backbone.stages.3.blocks.2.norm1.weight": 1,
        "backbone.stages.3.blocks.0.norm1.weight": 3,
        "backbone.stages.3.patch_embed.proj.weight": 3,  # with the first block of its stage
        "backbone.stages.2.blocks.5.norm1.weight": 4,
        "backbone.stages.0.blocks.0.norm1.weight": 13,
        "backbone.stages.0.pool_convs.0.weight": 13,
        "backbone.stages.0.patch_embed.proj.weight": 14,
    }
    assert {name: layers[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("model", "depth", "first"),
    [
        ("pvt_small", 16, "backbone.stages.0.pos_embed"),
        ("pvt_v2_b0", 8, "backbone.stages.0.patch_embed.proj.weight"),
        ("gpvit_l1", 12, "backbone.patch_embed.pos_embed"),
        ("topformer_tiny", 9 + 4, "backbone.pyramid.stem.conv.weight"),
        ("mask_rcnn_p2t_small", 16, "backbone.stages.0.patch_embed.proj.weight"),
        ("retinanet_gpvit_l1", 12, "backbone.patch_embed.pos_embed"),
        ("faster_rcnn_fpt_resnet50", 16, "backbone.stem.conv.weight"),
    ],
)
def test_depth_of_a_backbone(model: str, depth: int, first: str) -> None:
    layers = exponents(on_meta(model))
    assert max(layers.values()) == layers[first] == depth + 1
    behind = {name for name, layer in layers.items() if layer == 0}
    assert behind >= {name for name in layers if name.startswith(("head.", "neck."))}


def test_groups_learn_at_the_rate_of_their_layer() -> None:
    model = on_meta("pvt_v2_b0")
    config = OptimizerConfig(1e-3, layer_decay=0.5, no_decay=("vectors",))
    optimizer = build_optimizer(model, config, lr=0.8, is_fused=False)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert set(rates) == set(names.values())
    assert rates["head.fc.weight"] == rates["head.fc.bias"] == 0.8
    assert (
        rates["backbone.stages.3.norm.weight"] == rates["backbone.stages.3.blocks.1.mlp.fc1.bias"]
    )
    assert rates["backbone.stages.3.blocks.1.mlp.fc1.bias"] == pytest.approx(0.4)
    assert rates["backbone.stages.0.patch_embed.proj.weight"] == pytest.approx(0.8 * 0.5**9)
    for group in optimizer.param_groups:  # by which the schedule sets it before every step
        assert group["lr"] == pytest.approx(0.8 * group["lr_factor"])


@pytest.mark.parametrize("name", [*TRUNKS])
def test_stages_have_all_parameters_of_a_backbone(name: str) -> None:
    model = on_meta(name)
    count = 5 if name.startswith("topformer") else 4
    freeze_stages(model, count, print)
    assert not any(p.requires_grad for p in model.backbone.parameters())
    assert all(p.requires_grad for p in model.head.parameters())


@pytest.mark.parametrize(
    ("name", "frozen", "learning"),
    [
        ("p2t_tiny", "backbone.stages.1.blocks.1.norm1.weight", "backbone.stages.2.patch_embed"),
        ("gpvit_l1", "backbone.blocks.5.norm1.weight", "backbone.blocks.6.norm1.weight"),
        ("topformer_tiny", "backbone.pyramid.layers.4.", "backbone.pyramid.layers.5."),
        ("retinanet_gpvit_l1", "backbone.patch_embed.pos_embed", "backbone.prior"),
        (
            "mask_rcnn_fpt_resnet50",
            "backbone.stages.1.blocks.3.",
            "backbone.stages.2.blocks.0.conv",
        ),
    ],
)
def test_where_the_second_stage_ends(name: str, frozen: str, learning: str) -> None:
    model, said = on_meta(name), list[str]()
    parts = freeze_stages(model, 2, said.append)
    learns = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert not any(flag for name, flag in learns.items() if name.startswith(frozen))
    assert any(flag for name, flag in learns.items() if name.startswith(learning))
    assert said[0].startswith("frozen: stages 1 to 2 of ")
    assert model.identity.backbone in said[0]
    ids = {id(parameter) for part in parts for parameter in part.parameters()}
    assert ids == {id(p) for p in model.parameters() if not p.requires_grad and id(p) in ids}


def test_one_stage_is_said_with_its_size() -> None:
    said: list[str] = []
    model = on_meta("p2t_large")
    freeze_stages(model, 1, said.append)
    count = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert said == [
        f"frozen: stage 1 of 4 of the backbone p2t_large, {count / 1e6:.1f} M parameters"
    ]


def test_more_stages_than_there_are() -> None:
    with pytest.raises(ZigguratError, match="at most the 4 stages of the backbone p2t_tiny, got 5"):
        freeze_stages(on_meta("p2t_tiny"), 5, print)


def test_batch_norms_stay_and_convolutions_learn() -> None:
    model, said = on_meta("mask_rcnn_fpt_resnet50"), list[str]()
    norms = freeze_norms(model, said.append)
    assert said == ["frozen: the 53 batch norms of the backbone resnet50"]
    learns = {name: p.requires_grad for name, p in model.backbone.named_parameters()}
    assert len(learns) == 53 * 3
    assert {".norm." not in name for name, flag in learns.items() if flag} == {True}
    assert sum(learns.values()) == 53
    model.train()
    for norm in norms:
        norm.eval()
    assert not any(norm.training for norm in norms)
    with pytest.raises(ZigguratError, match="p2t_tiny has no batch norms that learn; leave"):
        freeze_norms(on_meta("p2t_tiny"), print)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "without weights they are random; give model.backbone_weights"),
        (
            ["--model.backbone_weights=a.pth", "--trainer.sync_batch_norm=true"],
            "over all processes; choose one of the two",
        ),
    ],
)
def test_what_cannot_be_frozen(words: list[str], message: str) -> None:
    config = load_run("mask_rcnn_fpt_resnet50_180k_coco", ["--data.root=coco", *words])
    with pytest.raises(ZigguratError, match=message):
        prepare_model(on_meta("mask_rcnn_fpt_resnet50"), config, print)


def test_networks_of_timm_have_no_known_layers() -> None:
    model = create_model("retinanet", backbone="timm:test_resnet", num_classes=2, head_channels=32)
    with pytest.raises(ZigguratError, match="stages of a TimmBackbone are not known"):
        freeze_stages(model, 1, print)
    with pytest.raises(ZigguratError, match="layers of a TimmBackbone are not known"):
        layer_factors(model, 0.5)


def test_blocks_are_computed_again_where_a_run_says_so() -> None:
    words = ["--data.root=/data", "--trainer.checkpoint_activations=true"]
    model = create_model("p2t_tiny", num_classes=2)
    assert prepare_model(model, load_run("p2t_tiny_300e_imagenet", words[:1]), print) == []
    assert not any(getattr(part, "use_checkpointing", False) for part in model.modules())
    prepare_model(model, load_run("p2t_tiny_300e_imagenet", words), print)
    stages = [part for part in model.modules() if hasattr(part, "use_checkpointing")]
    assert len(stages) == 4
    assert all(part.use_checkpointing for part in stages)


@pytest.mark.parametrize(
    ("words", "is_lean"),
    [
        ([], True),
        (["--trainer.precision=bf16"], True),
        (["--trainer.use_kernel=false"], False),
        (["--trainer.compile=true"], False),
        (["--trainer.strategy=fsdp"], False),
        (["--trainer.accelerator=cuda"], False),
    ],
)
def test_blocks_learn_through_the_kernel_on_the_cpu(words: list[str], is_lean: bool) -> None:
    model, said = create_model("p2t_tiny", num_classes=2), list[str]()
    words = ["--data.root=/data", "--trainer.accelerator=cpu", *words]
    prepare_model(model, load_run("p2t_tiny_from_scratch", words), said.append)
    if not any("without the feed-forward kernel" in line for line in said):
        assert any(isinstance(part, LeanBlock) for part in model.modules()) == is_lean


def test_a_run_without_the_kernel_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "no_such_compiler"))
    monkeypatch.setattr(
        "ziggurat.fast.training.load_training_kernel", load_training_kernel.__wrapped__
    )
    model, said = create_model("p2t_tiny", num_classes=2), list[str]()
    words = ["--data.root=/data", "--trainer.accelerator=cpu"]
    prepare_model(model, load_run("p2t_tiny_from_scratch", words), said.append)
    assert len(said) == 1
    assert "no_such_compiler" in said[0]
    assert "trainer.use_kernel=false" in said[0]


def test_networks_of_timm_compute_their_blocks_again() -> None:
    words = ["--data.root=/data", "--trainer.checkpoint_activations=true"]
    model = create_model("retinanet", backbone="timm:test_resnet", num_classes=2, head_channels=32)
    prepare_model(model, load_run("retinanet_p2t_tiny_1x_coco", words), print)
    network = model.backbone.model
    assert isinstance(network, nn.Module)
    assert any(getattr(part, "grad_checkpointing", False) for part in network.modules()) or getattr(
        network, "grad_checkpointing", False
    )


def test_a_transformer_behind_a_network_of_timm_computes_its_blocks_again() -> None:
    words = ["--data.root=/data", "--trainer.checkpoint_activations=true"]
    config = load_run("retinanet_p2t_tiny_1x_coco", [*words, "--trainer.use_kernel=false"])
    alone = (
        "trainer.checkpoint_activations holds for the Feature Pyramid Transformer alone: "
        "timm:hrnet_w18_small has no gradient checkpointing"
    )
    for network, said in (("resnet18", []), ("hrnet_w18_small", [alone])):
        lines: list[str] = []
        model = on_meta(f"retinanet_fpt_timm:{network}")
        prepare_model(model, config, lines.append)
        transformer = find_transformer(model)
        assert transformer is not None and transformer.use_checkpointing
        assert lines == said


@pytest.mark.parametrize("name", ["topformer_tiny", "gpvit_l1"])
def test_blocks_with_batch_norms_are_not_compiled_and_computed_again(name: str) -> None:
    words = ["--data.root=/data", "--trainer.compile=true", "--trainer.checkpoint_activations=true"]
    config = load_run("p2t_tiny_300e_imagenet", words)
    with pytest.raises(ZigguratError, match=f"compile must be false .* batch norms, as .* {name}"):
        prepare_model(on_meta(name), config, print)
    prepare_model(on_meta("p2t_tiny"), config, print)
