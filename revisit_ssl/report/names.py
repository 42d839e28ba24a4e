"""What networks, data sets and probes are called in tables, in the order in which they stand there."""

NETWORKS = {
    "revnet50": "RevNet50",
    "resnet50_v2": "ResNet50 v2",
    "resnet50_v1": "ResNet50 v1",
    "revnet50_minus": "RevNet50 (-)",
    "resnet50_v2_minus": "ResNet50 v2 (-)",
    "vgg19_bn": "VGG19-BN",
    "resnet18": "ResNet18",
    "resnet18_no_skip": "ResNet18, no skip",
    "resnet18_cifar": "ResNet18 (CIFAR)",
    "resnet18_torch": "ResNet18",
    "resnet50_torch": "ResNet50",
    "vgg16_bn": "VGG16-BN",
    "alexnet": "AlexNet",
}
DATASETS = {
    "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "cifar10_lt": "CIFAR-10-LT", "cifar100_lt": "CIFAR-100-LT",
    "stl10": "STL-10", "stl10_all": "STL-10 with its unlabelled images", "kitchen_hc": "Kitchen-HC",
    "imagenet100": "ImageNet-100", "imagenet2012": "ImageNet", "toy_scenes": "toy scenes", "voc": "VOC",
    "places205": "Places205", "oxford5k": "Oxford5k", "paris6k": "Paris6k", "roxford5k": "ROxford5k",
    "rparis6k": "RParis6k", "yfcc100m": "YFCC100M", "toy_instances": "toy instances",
    "voc07": "VOC07", "voc12": "VOC12", "voc0712": "VOC07+12", "coco": "COCO", "toy_detection": "toy detection",
}
PROBES = {
    "linear": "linear",
    "linear_images": "SGD linear on crops",
    "multi_layer": "linear on five stages",
    "last_layer": "linear on the last layer",
    "lbfgs": "L-BFGS",
    "lbfgs_paper": "L-BFGS with the paper's λ",
    "mlp": "MLP",
    "knn": "kNN",
    "nmi": "NMI",
    "clusters": "clusters",
    "retrieval": "retrieval",
    "finetune": "fine-tuning",
    "detection": "detection",
    "segmentation": "segmentation",
    "few_shot": "few-shot",
    "voc_svm": "VOC07 SVM",
    "voc_fc68": "VOC07 FC68",
    "voc_all": "VOC07 ALL",
    "instance_retrieval": "instance retrieval",
}


def network_name(backbone, width=None):
    """RevNet50, or RevNet50 4x"""
    return NETWORKS.get(backbone, backbone) + (f" {width}x" if width is not None else "")


def dataset_name(name):
    """ImageNet, for imagenet2012; a name that is not known stays."""
    return DATASETS.get(name, name)


def probe_name(name):
    """L-BFGS; a schedule behind the name stays: SGD linear on crops 30/50/70."""
    head, _, schedule = name.partition(" ")
    return f"{PROBES.get(head, head)} {schedule}".strip()


def data_name(dataset, probe_dataset, labels=1.0):
    """CIFAR, or pretrained on → probed on, with the share of the labels"""
    names = (
        dataset_name(dataset)
        if dataset == probe_dataset
        else f"{dataset_name(dataset)} → {dataset_name(probe_dataset)}"
    )
    return names if labels == 1 else f"{names}, {share(labels)} of the labels"


def sentence(name, *parts):
    """Method: options; 22 epochs. What there is of the parts, without the marks of those that are empty."""
    told = "; ".join(part for part in parts if part)
    return f"{name}: {told}." if told else f"{name}."


def share(labels):
    """10 %"""
    return f"{100 * labels:g} %"


def order(names, known):
    """Names in the order of the known ones, others after them as they come."""
    names, places = list(dict.fromkeys(names)), list(known)
    return sorted(names, key=lambda n: places.index(n) if n in places else len(places))
