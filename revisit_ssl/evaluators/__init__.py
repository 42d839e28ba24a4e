"""Probes: how good are frozen features? ``PROBES`` maps names to classes; to add one: a file here, a line below.

See base.Probe for the interface. Nothing here imports TensorFlow before it measures.
"""

from revisit_ssl.evaluators.base import FeatureSplit, Probe, Score
from revisit_ssl.evaluators.clusters import Clusters
from revisit_ssl.evaluators.detection import Detection, Segmentation
from revisit_ssl.evaluators.few_shot import FewShot
from revisit_ssl.evaluators.finetune import Finetune
from revisit_ssl.evaluators.instance_retrieval import InstanceRetrieval
from revisit_ssl.evaluators.knn import KNN
from revisit_ssl.evaluators.lbfgs import LBFGS
from revisit_ssl.evaluators.linear import Linear
from revisit_ssl.evaluators.linear_images import LinearImages
from revisit_ssl.evaluators.mlp import MLP
from revisit_ssl.evaluators.multi_layer import LastLayer, MultiLayer
from revisit_ssl.evaluators.nmi import NMI
from revisit_ssl.evaluators.retrieval import Retrieval
from revisit_ssl.evaluators.voc_classification import VOCFC68, VOCAll
from revisit_ssl.evaluators.voc_svm import VOCSVM

PROBES = {
    "linear": Linear,
    "lbfgs": LBFGS,
    "mlp": MLP,
    "knn": KNN,
    "linear_images": LinearImages,
    "multi_layer": MultiLayer,
    "last_layer": LastLayer,
    "finetune": Finetune,
    "nmi": NMI,
    "clusters": Clusters,
    "retrieval": Retrieval,
    "instance_retrieval": InstanceRetrieval,
    "few_shot": FewShot,
    "voc_svm": VOCSVM,
    "voc_fc68": VOCFC68,
    "voc_all": VOCAll,
    "detection": Detection,
    "segmentation": Segmentation,
}

__all__ = ["PROBES", "FeatureSplit", "Probe", "Score", "at_defaults"]


def at_defaults(*names):
    """{name: options at their defaults}, which suit small sets."""
    return {name: PROBES[name]() for name in names}
