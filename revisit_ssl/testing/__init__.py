"""Checks for what is added outside this repository: what one writes oneself is held to what the parts here are."""

from revisit_ssl.testing.backbone import check_backbone
from revisit_ssl.testing.dataset import check_dataset
from revisit_ssl.testing.detection_set import check_detection_set
from revisit_ssl.testing.networks import tiny_backbone, two_devices
from revisit_ssl.testing.paper import check_paper
from revisit_ssl.testing.pretext import check_pretext
from revisit_ssl.testing.probe import check_probe

__all__ = [
    "check_backbone",
    "check_dataset",
    "check_detection_set",
    "check_paper",
    "check_pretext",
    "check_probe",
    "tiny_backbone",
    "two_devices",
]
