"""torchvision's Faster R-CNN on the trunk of bench.py --what detection: python in_torchvision.py FOLDER

FOLDER holds options.json and tensors.bin (float32, one after the other, as options["tensors"] lists their names and
shapes): the detector's weights by our names, the images float32 [B, H, W, 3] as the network sees them, their boxes
[B, G, 4] as y1, x1, y2, x2. Prints one line when it is ready; then for each line on its standard input, "train N" or
"detect N", the seconds of N passes and a JSON list: the losses, or the best detections of the first image.
"""

import json
import math
import os
import sys
import time

import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import roi_align


class Pool(nn.Module):
    """RoIAlign as detectron2 has it in its C4 models; torchvision's own pooler is not aligned."""

    def __init__(self, size, stride):
        super().__init__()
        self.size, self.stride = size, stride

    def forward(self, features, boxes, shapes):
        return roi_align(features["0"], boxes, self.size, 1 / self.stride, sampling_ratio=0, aligned=True)


class Head(nn.Module):
    """The rest of the network, one more BatchNorm, the mean over the map."""

    def __init__(self, layer4, channels):
        super().__init__()
        self.layer4, self.norm = layer4, nn.BatchNorm2d(channels)

    def forward(self, regions):
        return self.norm(self.layer4(regions)).mean((2, 3))


class Detector(nn.Module):
    def __init__(self, options):
        super().__init__()
        self.net = net = resnet18(weights=None)
        each = len(options["cell_anchors"])
        anchors = AnchorGenerator(sizes=((32,),), aspect_ratios=((1.0,),))
        anchors.cell_anchors = [torch.tensor(options["cell_anchors"])]  # its own ones are rounded
        anchors.num_anchors_per_location = lambda: [each]
        before, after = zip(options["train_proposals"], options["test_proposals"], strict=True)
        counts = [dict(zip(("training", "testing"), pair, strict=True)) for pair in (before, after)]
        per_image = options["anchors_per_image"]
        self.rpn = RegionProposalNetwork(anchors, RPNHead(256, each), 0.7, 0.3, per_image, 0.5, *counts, 0.7)
        pool, head, last = Pool(options["pool"], options["stride"]), Head(net.layer4, 512), options["num_classes"] + 1
        shares = (options["regions"], 0.25, None, 0.05, 0.5, 100)
        self.heads = RoIHeads(pool, head, FastRCNNPredictor(512, last), 0.5, 0.5, *shares)

    def forward(self, images, targets):
        net = self.net
        x = net.maxpool(net.relu(net.bn1(net.conv1(images))))
        maps = {"0": net.layer3(net.layer2(net.layer1(x)))}
        shapes = [tuple(images.shape[2:])] * len(images)
        proposals, first = self.rpn(ImageList(images, shapes), maps, targets)
        found, second = self.heads(maps, proposals, shapes, targets)
        return found, {**first, **second}


def read(folder):
    """(options, {name: float32 tensor})."""
    with open(os.path.join(folder, "options.json")) as file:
        options = json.load(file)
    with open(os.path.join(folder, "tensors.bin"), "rb") as file:
        flat = torch.frombuffer(bytearray(file.read()), dtype=torch.float32)
    tensors, begin = {}, 0
    for name, shape in options.pop("tensors"):
        end = begin + math.prod(shape)
        tensors[name], begin = flat[begin:end].reshape(shape), end
    return options, tensors


def torch_name(path):
    """conv1.weight of root/kernel; which of torchvision's parameters and statistics has those values."""
    layer, field = path.split("/")[-2:]
    field = {
        "kernel": "weight", "gamma": "weight", "beta": "bias", "bias": "bias", "moving_mean": "running_mean",
        "moving_variance": "running_var",
    }[field]
    heads = {
        "rpn_conv": "rpn.head.conv.0.0", "rpn_logits": "rpn.head.cls_logits", "rpn_deltas": "rpn.head.bbox_pred",
        "extra_norm": "heads.box_head.norm", "classifier": "heads.box_predictor.cls_score",
        "regressor": "heads.box_predictor.bbox_pred", "root": "net.conv1", "root_norm": "net.bn1",
    }
    if layer in heads:
        return f"{heads[layer]}.{field}"
    block, unit, part, *norm = layer.split("_")
    place = f"net.layer{block[5:]}.{int(unit[4:]) - 1}"
    if part == "proj":
        return f"{place}.downsample.{1 if norm else 0}.{field}"
    return f"{place}.{'bn' if norm else 'conv'}{part[4:]}.{field}"


def as_torch(path, values, options):
    """Our values in torch's order: channels first, x before y, the background first."""
    if path.endswith("kernel"):
        values = values.permute(3, 2, 0, 1) if values.ndim == 4 else values.T
    name = path.split("/")[-2]
    if name in ("rpn_deltas", "regressor"):
        by_box = values.reshape(-1, 4, *values.shape[1:])[:, [1, 0, 3, 2]]
        if name == "regressor":
            by_box = torch.cat([torch.zeros_like(by_box[:1]), by_box])
        values = by_box.reshape(-1, *values.shape[1:])
    return torch.cat([values[-1:], values[:-1]]) if name == "classifier" else values


def main():
    options, tensors = read(sys.argv[1])
    images = tensors.pop("images").permute(0, 3, 1, 2).contiguous()
    boxes = tensors.pop("boxes")[..., [1, 0, 3, 2]]
    detector = Detector(options)
    state = {torch_name(path): as_torch(path, values, options) for path, values in tensors.items()}
    missing, unexpected = detector.load_state_dict(state, strict=False)
    elsewhere = ("num_batches", ".fc.", "box_head.layer4")
    lost = [name for name in missing if not any(part in name for part in elsewhere)]
    if lost or unexpected:
        sys.exit(f"RuntimeError: lost {lost}, unexpected {unexpected}")
    labels = torch.tensor(options["classes"]) + 1
    targets = [{"boxes": own, "labels": kinds} for own, kinds in zip(boxes, labels, strict=True)]
    optimizer = torch.optim.SGD(detector.parameters(), **options["optimizer"])
    print("torch", torch.__version__, flush=True)
    for line in sys.stdin:
        what, count = line.split()
        detector.train(what == "train")
        begun = time.perf_counter()
        for _ in range(int(count)):
            if what == "train":
                losses = detector(images, targets)[1]
                optimizer.zero_grad(set_to_none=True)
                sum(losses.values()).backward()
                optimizer.step()
                told = [loss.item() for loss in losses.values()]
            else:
                with torch.inference_mode():
                    found = detector(images[:1], None)[0][0]
                told = torch.cat([found["scores"][:, None], found["boxes"]], dim=1).tolist()
        print(time.perf_counter() - begun, json.dumps(told[:20]), flush=True)


if __name__ == "__main__":
    main()
