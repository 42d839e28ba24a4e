"""Probes: how good are frozen features? ``PROBES`` maps names to classes; see base.py for the three interfaces.

``represent(backbone, images, NetworkInput.of(recipe))`` gives features of any images, nine-patch networks included.
"""

from revisit_ssl.evaluators.base import FeatureProbe, FeatureSplit, ImageProbe, MultiLabelProbe, ProbeScore
from revisit_ssl.evaluators.few_shot import FewShot
from revisit_ssl.evaluators.finetune import Finetune
from revisit_ssl.evaluators.image_probe import LinearImages
from revisit_ssl.evaluators.knn import KNN
from revisit_ssl.evaluators.lbfgs import LBFGS
from revisit_ssl.evaluators.linear import Linear
from revisit_ssl.evaluators.mlp import MLP
from revisit_ssl.evaluators.nmi import NMI
from revisit_ssl.evaluators.retrieval import Retrieval
from revisit_ssl.evaluators.voc_svm import VOCSVM
from revisit_ssl.features.representation import NetworkInput, represent

PROBES = {
    "linear": Linear,
    "lbfgs": LBFGS,
    "mlp": MLP,
    "knn": KNN,
    "linear_images": LinearImages,
    "finetune": Finetune,
    "nmi": NMI,
    "retrieval": Retrieval,
    "few_shot": FewShot,
    "voc_svm": VOCSVM,
}

__all__ = [
    "PROBES",
    "FeatureProbe",
    "FeatureSplit",
    "ImageProbe",
    "MultiLabelProbe",
    "NetworkInput",
    "ProbeScore",
    "represent",
]
