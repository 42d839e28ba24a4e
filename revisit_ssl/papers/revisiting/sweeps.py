"""Revisiting's sweeps, each with the cells of one table or figure."""

from revisit_ssl.papers.revisiting.recipes import PRETEXTS, TASKS, published_settings
from revisit_ssl.papers.spec import Variant

PAIR = ("resnet18", "resnet18_no_skip")
ENDPOINTS = ("block1", "block2", "block3", "block4", "pre_logits")
NETWORKS = [Variant(pretext, backbone=backbone, width=k) for pretext, backbone, k in published_settings()]
SIZE = "backbone.representation_size"
PLACES = {"probe_dataset": "places205"}


def probed(variants, label, **fields):
    """The same networks, probed otherwise."""
    return [Variant(v.recipe, label=label, backbone=v.backbone, width=v.width, fields=fields) for v in variants]


SWEEPS = {
    "revisiting": [Variant(name) for name in PRETEXTS],
    # 66 networks: rotation has widths 4, 8, 12 and 16, Exemplar 4, 8 and 12, the patch tasks 4 and 8.
    "revisiting-table1": NETWORKS,
    # The best model of each pretext, on the official validation set.
    "revisiting-table2": probed(
        [Variant(name, backbone=task.backbone, width=task.width) for name, task in TASKS.items()], "test",
        probe_train="trainval", probe_split="test",
    ),
    # With and without skip connections; the supervised networks' own accuracy is in the text beside it.
    "revisiting-suppl1": probed(
        [Variant(p, backbone=b, width=4) for p in ("rotation", "exemplar", "supervised") for b in PAIR], "endpoints",
        endpoints=ENDPOINTS,
    ),
    "revisiting-suppl2": probed(NETWORKS, "labels10", probe_fraction=0.1),
    "revisiting-suppl3": probed(NETWORKS, "places", **PLACES),
    "revisiting-suppl4": probed(NETWORKS, "places5", **PLACES, probe_fraction=0.05),
    # The supplement's: accuracy over the epochs of the SGD probe, the four pretexts.
    "revisiting-figure1": [Variant(name) for name in PRETEXTS],
    # Rotation and RevNet50 over width and size of the representation. Of its numbers we hold two, of k = 1 at 512 and
    # at 8192; that networks of Table 1 are among them makes the other widths and sizes. The grid itself is not stated.
    "revisiting-figure6": [
        Variant("rotation", label=f"size{size}", backbone="revnet50", width=k, fields={SIZE: size})
        for k in (1, *TASKS["rotation"].widths) for size in (512, 2048, 4096, 6144, 8192)
    ],
}
