"""torchvision, imported so that it works beside every build of torch.

A torchvision wheel built for CUDA fails to import beside a CPU build of torch ("operator
torchvision::nms does not exist"): its compiled operators do not load, and its Python code then annotates
operators that nobody declared. Declaring the two it names lets the rest (datasets, transforms, models),
which needs neither, import and run.
"""

import torch

_OPERATORS = ("nms", "qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

try:
    import torchvision
except RuntimeError as error:
    if "torchvision::nms" not in str(error):
        raise
    _library = torch.library.Library("torchvision", "DEF")  # the declarations live as long as this object
    for _operator in _OPERATORS:
        _library.define(_operator + _SCHEMA)
    import torchvision

datasets = torchvision.datasets
models = torchvision.models

__all__ = ["datasets", "models"]
