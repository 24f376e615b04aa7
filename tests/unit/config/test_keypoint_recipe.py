"""The recipe of Keypoint R-CNN says what its authors' configuration says."""

from ziggurat.cards import MODELS
from ziggurat.config import KeypointDetectionRun, load_run

RECIPE = "keypoint_rcnn_resnet50_1x_coco"


def test_the_run_has_the_published_schedule() -> None:
    run = load_run(RECIPE, ["--data.root=somewhere"])
    assert isinstance(run, KeypointDetectionRun)
    assert run.model.name == "keypoint_rcnn_resnet50"
    assert MODELS[run.model.name].recipes == (RECIPE,)
    optimizer, schedule = run.optimizer, run.schedule
    assert (optimizer.kind, optimizer.lr, optimizer.reference_batch) == ("sgd", 0.02, 16)
    assert (optimizer.momentum, optimizer.weight_decay) == (0.9, 1e-4)
    assert (schedule.warmup_steps, schedule.warmup_start) == (500, 1 / 3)
    assert (schedule.milestone_steps, schedule.gamma) == ((60_000, 80_000), 0.1)
    assert (run.trainer.max_epochs, run.trainer.max_steps) == (None, 90_000)
    assert run.data.train_short_sides == (640, 672, 704, 736, 768, 800)
    assert (run.data.short_side, run.data.long_side, run.data.flip) == (800, 1333, 0.5)
