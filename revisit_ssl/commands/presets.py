"""What the presets promise: how large, how long."""

PROMISES = {
    "sample": "embedded data, minutes on a laptop",
    "small": "CIFAR-10 or 10,000 images of it, a quarter of an hour on two cores",
    "imagenette": "4,500 images of Imagenette at 64 px, a quarter of an hour on two cores",
    "cifar10": "CIFAR-10: a quarter of an hour on two cores; CLD and its base methods: published scale, hours on a GPU",
    "cifar10-first": "the first released version of the CIFAR-10 script, hours on a GPU",
    "supplement": "CIFAR-10 as the supplement's text says, hours on a GPU",
    "demo": "the official CIFAR-10 notebook, hours on a GPU",
    "cifar100": "CIFAR-100, published scale, hours on a GPU",
    "cifar10_lt": "long-tailed CIFAR-10, published scale, an hour on a GPU",
    "cifar100_lt": "long-tailed CIFAR-100, published scale, an hour on a GPU",
    "stl10": "STL-10 with its unlabelled images, published scale, a day on a GPU",
    "kitchen_hc": "Kitchen-HC, published scale, an hour on a GPU",
    "imagenet": "ImageNet, published scale, for accelerators",
    "imagenet100": "ImageNet-100, published scale, for accelerators",
    "imagenet20": "a fifth of ImageNet, published scale, for accelerators",
    "imagenet_lt": "ImageNet-LT, published scale, for accelerators",
    "paper": "the paper's setting, for accelerators",
    "semi_1pct": "the weights of paper, fine-tuned on 1 % of ImageNet's labels with a search, for accelerators",
    "semi_10pct": "the same on 10 %",
    "openselfsup": "OpenSelfSup's configuration, for accelerators",
    "v3-8": "the released 8-core configuration",
    "gpu": "the paper's setting on one GPU, same learning-rate rule",
    "coco": "COCO's images without their labels, published scale, for accelerators",
    "conceptual_captions": "a folder of Conceptual Captions' images, published scale, for accelerators",
    "stages": "10,000 images of CIFAR-10, nine methods by one network and one probe, a quarter of an hour on two cores",
    "smoke": "seconds, tests the machinery, features worth nothing",
}


def promise(preset):
    """A line on a preset; one that is not known here is a paper's of one's own."""
    return PROMISES.get(preset, "a setting of its paper")
