"""Whose average precision a detector's is: COCO's, Pascal VOC's or Cityscapes'."""

from dataclasses import replace
from typing import Literal

from ziggurat.errors import ZigguratError
from ziggurat.metrics.base import Metric, Report
from ziggurat.metrics.coco import CocoMetric

Rules = Literal["coco", "voc", "cityscapes"]


def check_rules(rules: Rules, metric: Metric, model_name: str) -> None:
    """Look whether a model can be measured so, before it runs over all images.

    Args:
        rules: Whose rules were asked for.
        metric: What measures the model.
        model_name: Name of the model, for messages.

    Raises:
        ZigguratError: If it cannot.
    """
    if rules == "coco":
        return
    if not isinstance(metric, CocoMetric):
        raise ZigguratError(
            f"the rules of {rules} are for detectors, and {model_name} is none; leave them out"
        )
    if rules == "cityscapes" and "masks" not in metric.kinds:
        raise ZigguratError(
            f"the rules of Cityscapes are about masks, and {model_name} finds boxes only; evaluate "
            "by those of COCO or Pascal VOC"
        )


def report_by(rules: Rules, metric: CocoMetric, by_coco: Report) -> Report:
    """Count what a metric has collected; COCO's numbers come with a breakdown of mistakes.

    Args:
        rules: Whose rules were asked for.
        metric: What was found.
        by_coco: Its report by the rules of COCO.
    """
    if rules == "voc":
        return metric.compute_voc()
    if rules == "cityscapes":
        return metric.compute_cityscapes()
    return replace(by_coco, errors=metric.errors())
