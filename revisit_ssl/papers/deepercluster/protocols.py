"""How the DeeperCluster paper measures features, and the DeepCluster paper before it; the numbers of their scripts."""

from revisit_ssl.evaluators import NMI, VOCFC68, Finetune, InstanceRetrieval, LinearImages, VOCAll

# Means over squares, so that every layer gives some 9,000 values: name, side, zeros around.
VGG16_POOLS = (
    ("conv1", 18, 0), ("conv2", 18, 0), ("conv3", 14, 0), ("conv4", 14, 0), ("conv5", 9, 0), ("conv6", 9, 0),
    ("conv7", 9, 0), ("conv8", 6, 0), ("conv9", 6, 0), ("conv10", 6, 0), ("conv11", 3, 0), ("conv12", 3, 0),
    ("conv13", 3, 0),
)
ALEXNET_POOLS = (("conv1", 6, 3), ("conv2", 4, 0), ("conv3", 3, 1), ("conv4", 3, 1), ("conv5", 2, 0))


def _rates(*rates):
    return tuple((f"conv{i}", rate) for i, rate in enumerate(rates, 1))


# linear_classif_layers.sh: chosen by cross-validation, one for each layer.
IMAGENET_RATES = _rates(0.005, 0.01, 0.03, 0.03, 0.03, 0.03, 0.02, 0.03, 0.03, 0.03, 0.02, 0.02, 0.02)
# Disputed: 0.02 for conv13 there, 0.03 in the script of conv13 alone.
PLACES_RATES = _rates(0.003, 0.005, *[0.01] * 7, 0.03, 0.01, 0.01, 0.02)


def _linear(rates):
    """100 epochs of random resized crops and flips; the rate falls by Bottou's law, which is by a few percent."""
    return LinearImages(
        crop="resized", flip=True, batch_size=256, learning_rates=(0.02,), layer_rates=rates, scale_lr=False,
        schedule=(100,), decay="bottou", weight_decay=1e-5, pools=VGG16_POOLS, start="normal",
    )


# DeepCluster's eval_linear.py, AlexNet. Disputed: weight decay 1e-4 by default, 1e-7 in its script.
# Deviation: the crop is from all of the image, shorter side 256; the authors' is from the middle 256 x 256 of it.
ALEXNET_LINEAR = LinearImages(
    resize=256, flip=True, batch_size=256, learning_rates=(0.01,), scale_lr=False, schedule=(90,), decay="bottou",
    weight_decay=1e-4, pools=ALEXNET_POOLS, start="normal",
)
RETRIEVAL = InstanceRetrieval(size=1024)
VOC = {
    "voc_fc68": VOCFC68(hidden=(4096, 4096), share=1.0),
    "voc_all": VOCAll(hidden=(4096, 4096), share=1.0),
}
# A supervised network from the pretrained start: lr 0.1, no new rate for the new layers.
WHOLE = {
    "learning_rates": (0.1,), "head_multipliers": (1.0,), "weight_decay": 1e-4, "hidden": (4096, 4096), "dropout": 0.5,
    "fold_sobel": True,
}
# "PyTorch doc" in Table 2: a tenth after 30 and 60 of 90 epochs.
PYTORCH_DOC = Finetune(epochs=90, decay_at=(1 / 3, 2 / 3), factor=0.1, **WHOLE)
# "Ours" there: a fifth after every 20 of 100 epochs. Disputed: the released script has the other's drops.
OURS = Finetune(epochs=100, decay_at=(0.2, 0.4, 0.6, 0.8), factor=0.2, **WHOLE)

SHARED = VOC | {"instance_retrieval": RETRIEVAL, "nmi": NMI(normalizer="geometric")}
PROTOCOLS = {
    "deepercluster": SHARED | {"linear_images": _linear(IMAGENET_RATES), "finetune": OURS},
    "deepercluster_places": {"linear_images": _linear(PLACES_RATES)},
    "deepercluster_pytorch_doc": {"finetune": PYTORCH_DOC},
    "deepcluster": SHARED | {"linear_images": ALEXNET_LINEAR},
}
