"""How the CLD paper measures features, with MoCo's or with InfoMin's linear classifiers on ImageNet."""

from revisit_ssl.evaluators import KNN, NMI, Finetune, Linear, LinearImages, Retrieval
from revisit_ssl.papers.detecting import VOC07, VOC0712

CLD = {
    # K 200; sigma is that of the instance loss, which the recipes set.
    "knn": KNN(),
    "nmi": NMI(),
    "retrieval": Retrieval(),
    # The pair that the supplement found best for every method, lr 0.01 and 100 times that; nothing is chosen.
    "finetune": Finetune(learning_rates=(0.01,), head_multipliers=(100.0,)),
    # On small sets, where no text says how: the numbers of Revisiting's supplement.
    "linear": Linear(
        learning_rates=(0.1,), epochs=(520,), decay_at=(480 / 520, 500 / 520), batch_size=2048, standardize=False
    ),
}
# ImageNet by MoCo's script, which is CLD's too: lr 30, 100 epochs, drops at 60 and 80.
MOCO = LinearImages(
    crop="resized", flip=True, batch_size=256, learning_rates=(30.0,), schedule=(60, 80, 100), start="normal"
)
# ImageNet by InfoMin's released command: lr 30, 60 epochs, drops to a fifth at 30, 40 and 50, RandAugment of the
# training images (--aug_linear RA), with which the published numbers were measured; the script's default has none.
INFOMIN = LinearImages(
    crop="resized", scale=(0.2, 1.0), flip=True, batch_size=256, learning_rates=(30.0,), schedule=(30, 40, 50, 60),
    factor=0.2, start="normal", randaugment_layers=2,
)
# Of the few labels: the search behind the pair above, three rates and three multipliers, greedily, on val.
SEARCH = Finetune()

PROTOCOLS = {
    "moco": CLD | {"linear_images": MOCO},
    "infomin": CLD | {"linear_images": INFOMIN},
    # Supplement 2.4: VOC 2007 and 2012 together in 24,000 steps, or VOC 2007 alone in 9,000.
    "voc0712": {"detection": VOC0712},
    "voc07": {"detection": VOC07},
}
