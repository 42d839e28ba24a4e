"""How MaskCo measures features: supplement, A.3, and the files of OpenSelfSup that it cites."""

from revisit_ssl.evaluators import LastLayer, MultiLayer

MASKCO = {
    # r50_multihead.py. Disputed: the supplement's own numbers are protocol maskco_text.
    "multi_layer": MultiLayer(schedule=(30, 60, 90)),
    # r50_last.py, named beside it and not used.
    "last_layer": LastLayer(schedule=(60, 80, 100)),
}
# The supplement's words: 0.1, momentum 0.9, no word of Nesterov.
TEXT = MASKCO | {"multi_layer": MultiLayer(schedule=(30, 60, 90), learning_rates=(0.1,), nesterov=False)}

PROTOCOLS = {"maskco": MASKCO, "maskco_text": TEXT}
"""What each protocol says of the probes; all else is their defaults."""
