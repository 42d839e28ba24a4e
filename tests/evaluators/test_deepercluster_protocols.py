"""The numbers of DeeperCluster's and DeepCluster's evaluations, as their supplement and scripts have them."""

import pytest

from revisit_ssl.papers.deepercluster.protocols import PROTOCOLS


def test_linear_classifiers():
    imagenet, places = (PROTOCOLS[name]["linear_images"] for name in ("deepercluster", "deepercluster_places"))
    for probe in (imagenet, places):
        assert (probe.schedule, probe.decay, probe.weight_decay, probe.momentum) == ((100,), "bottou", 1e-5, 0.9)
        assert (probe.crop, probe.flip, probe.batch_size, probe.scale) == ("resized", True, 256, (0.08, 1.0))
        assert not probe.chooses and [name for name, _ in probe.layer_rates] == [f"conv{i}" for i in range(1, 14)]
    assert [imagenet.rates(256, f"conv{i}") for i in (1, 2, 3, 7, 10, 13)] == [
        [0.005], [0.01], [0.03], [0.02], [0.03], [0.02],
    ]
    assert [places.rates(256, f"conv{i}") for i in (1, 2, 3, 9, 10, 11, 13)] == [
        [0.003], [0.005], [0.01], [0.01], [0.03], [0.01], [0.02],
    ]
    assert imagenet.squares["conv2"] == (18, 0) and imagenet.squares["conv10"] == (6, 0)
    alexnet = PROTOCOLS["deepcluster"]["linear_images"]
    assert (alexnet.schedule, alexnet.rates(256), alexnet.weight_decay) == ((90,), [0.01], 1e-4)
    assert alexnet.resize == 256 and alexnet.squares["conv1"] == (6, 3) and alexnet.squares["conv4"] == (3, 1)


def test_voc_and_retrieval():
    known = PROTOCOLS["deepercluster"]
    fc68, whole = known["voc_fc68"], known["voc_all"]
    assert (fc68.steps, whole.steps) == ((150_000, 20_000), (150_000, 10_000))
    assert (fc68.weight_decay, whole.weight_decay, fc68.trunk, whole.trunk) == (1e-5, 1e-4, False, True)
    for probe in (fc68, whole):
        assert (probe.hidden, probe.dropout, probe.batch_size) == ((4096, 4096), 0.5, 16)
        assert probe.learning_rates == (0.003,)
        assert (probe.clip, probe.factor, probe.crops, probe.test_crops) == (10.0, 0.5, 10, "random")
    retrieval = known["instance_retrieval"]
    assert (retrieval.size, retrieval.levels, retrieval.dimension, retrieval.whiten) == (1024, 3, 512, True)
    assert known["nmi"].normalizer == "geometric"


@pytest.mark.parametrize(("protocol", "epochs", "drops", "factor"), [
    ("deepercluster", 100, [20, 40, 60, 80], 0.2), ("deepercluster_pytorch_doc", 90, [30, 60], 0.1),
])
def test_a_supervised_network_from_a_pretrained_start(protocol, epochs, drops, factor):
    probe = PROTOCOLS[protocol]["finetune"]
    assert (probe.epochs, [round(share * epochs) for share in probe.decay_at], probe.factor) == (epochs, drops, factor)
    assert (probe.learning_rates, probe.weight_decay, probe.batch_size) == ((0.1,), 1e-4, 256)
    assert (probe.hidden, probe.dropout, probe.fold_sobel, probe.chooses) == ((4096, 4096), 0.5, True, False)
