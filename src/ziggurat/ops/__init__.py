"""Functions on tensors: boxes, anchors, matching, suppression."""
