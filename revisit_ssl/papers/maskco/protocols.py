"""How MaskCo measures features: supplement, A.3, and the files of OpenSelfSup that it cites."""

from revisit_ssl.evaluators import LastLayer, MultiLayer
from revisit_ssl.papers.detecting import COCO_2X, COCO_2X_OPENSELFSUP

MASKCO = {
    # r50_multihead.py. Disputed: the supplement's own numbers are protocol maskco_text.
    "multi_layer": MultiLayer(batch_size=256, learning_rates=(0.01,), schedule=(30, 60, 90)),
    # r50_last.py, named beside it and not used.
    "last_layer": LastLayer(schedule=(60, 80, 100)),
}
# The supplement's words: 0.1, momentum 0.9, no word of Nesterov.
TEXT = MASKCO | {
    "multi_layer": MultiLayer(batch_size=256, learning_rates=(0.1,), schedule=(30, 60, 90), nesterov=False)
}

PROTOCOLS = {
    "maskco": MASKCO,
    "maskco_text": TEXT,
    # Boxes and masks; VOC is protocol voc0712. Disputed: the longer side of a training image, 1333 in MoCo's file and
    # 1200 in OpenSelfSup's, which MaskCo cites.
    "coco_2x": {"segmentation": COCO_2X},
    "coco_2x_openselfsup": {"segmentation": COCO_2X_OPENSELFSUP},
}
"""What each protocol says of the probes; all else is their defaults."""
