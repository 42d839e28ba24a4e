"""How OBoW measures features: supplement, C.2 and C.4, and the benchmark behind its numbers on VOC."""

from dataclasses import replace

from revisit_ssl.evaluators import VOCSVM, FewShot, Finetune, Linear, LinearImages
from revisit_ssl.papers.detecting import VOC0712

OBOW = {
    # On a part of ImageNet: lr 10, a tenth after 15, 30 and 45 of 50 epochs, L2, raw features, flips.
    "linear": Linear(
        learning_rates=(10.0,), epochs=(50,), decay_at=(0.3, 0.6, 0.9), standardize=False, weight_decay=2e-6,
        flip=True, start="normal",
    ),
    # On ImageNet: 1,024 images a step, lr 10 (2.5 for 256 images), a cosine of 100 epochs.
    "linear_images": LinearImages(
        crop="resized", flip=True, batch_size=1024, learning_rates=(2.5,), schedule=(100,), decay="cosine",
        start="normal",
    ),
    # 50 of ImageNet's 300 classes, one query each.
    "few_shot": FewShot(ways=50, queries=1, classes="novel_1"),
    # For 10 % of the labels: lr 2e-4, 0.5 for the new layer, no L2. For 1 %: 40 epochs.
    "finetune": Finetune(learning_rates=(2e-4,), head_multipliers=(2500.0,), weight_decay=0.0, few_epochs=40),
    "voc_svm": VOCSVM(),
    # VOC 2007 and 2012; half of MoCo's rate, as its released configuration has it.
    "detection": replace(VOC0712, learning_rate=0.01),
}
PLACES = {
    # 14 epochs, drops after 5 and 10. Disputed: the README has 28, 10 and 20, and L2 1e-5.
    "linear_images": LinearImages(
        flip=True, batch_size=256, learning_rates=(0.01,), schedule=(5, 10, 14), weight_decay=1e-4, batch_norm=True,
        start="normal",
    ),
}

PROTOCOLS = {"obow": OBOW, "obow_places": PLACES}
