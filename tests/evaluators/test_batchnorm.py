"""Re-estimated batch-norm statistics against NumPy; nothing else of the network may change."""

import keras
import numpy as np
import pytest

from revisit_ssl.backbones.normalisation import BatchNorm
from revisit_ssl.distribute import get_strategy
from revisit_ssl.errors import InputError
from revisit_ssl.features.batchnorm import reestimate_batch_norm

BATCHES = [np.random.default_rng(i).normal(2 + i, 1 + i, (n, 4, 4, 3)).astype("f4") for i, n in enumerate((8, 8, 4))]


def network(layer=keras.layers.BatchNormalization):
    image = keras.Input((None, None, 3), name="image")
    x = layer(momentum=0.97, name="first")(image)
    inner = keras.Sequential([keras.Input((None, None, 3)), layer(name="second")], name="inner")
    return keras.Model(image, {"pre_logits": inner(keras.layers.ReLU()(x))})


def expected(unbiased):
    """Mean over batches, by rows, of the statistics of both layers: [mean1, var1, mean2, var2]."""
    totals = np.zeros((4, 3))
    for x in BATCHES:
        factor = x[..., 0].size / (x[..., 0].size - 1) if unbiased else 1.0
        mean, var = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
        y = np.maximum((x - mean) / np.sqrt(var + 1e-3), 0)
        totals += len(x) * np.stack([mean, var * factor, y.mean(axis=(0, 1, 2)), y.var(axis=(0, 1, 2)) * factor])
    return totals / sum(len(x) for x in BATCHES)


def statistics(model):
    norms = [model.get_layer("first"), model.get_layer("inner").get_layer("second")]
    return norms, np.stack([np.asarray(v) for x in norms for v in (x.moving_mean, x.moving_variance)])


@pytest.mark.parametrize("layer, unbiased", [(keras.layers.BatchNormalization, False), (BatchNorm, True)])
@pytest.mark.parametrize("frozen", [False, True])
def test_statistics_are_the_mean_over_batches(layer, unbiased, frozen):
    model = network(layer)
    if frozen:
        model.trainable = False
    model.get_layer("first").gamma.assign([1.0, 1.0, 1.0])
    weights = [np.asarray(w) for x in statistics(model)[0] for w in (x.gamma, x.beta)]
    flags = [x.trainable for x in model._flatten_layers()]
    assert reestimate_batch_norm(model, BATCHES) == 20
    norms, found = statistics(model)
    np.testing.assert_allclose(found, expected(unbiased), rtol=1e-4, atol=1e-5)
    assert [x.momentum for x in norms] == [0.97, 0.99] and [x.trainable for x in model._flatten_layers()] == flags
    after = [np.asarray(w) for x in norms for w in (x.gamma, x.beta)]
    np.testing.assert_array_equal(after, weights)
    # Inference uses them, and a training step moves them by the layer's own momentum again.
    x = (BATCHES[0] - found[0]) / np.sqrt(found[1] + 1e-3)
    np.testing.assert_allclose(model.get_layer("first")(BATCHES[0], training=False), x, rtol=1e-3, atol=1e-3)
    if not frozen:
        model(BATCHES[0], training=True)
        moved = 0.97 * found[0] + 0.03 * BATCHES[0].mean(axis=(0, 1, 2))
        np.testing.assert_allclose(statistics(model)[1][0], moved, rtol=1e-4)


def test_a_network_made_under_a_strategy_with_synchronised_norm():
    with get_strategy("mirrored").scope():
        model = network(lambda **options: BatchNorm(synchronized=True, **options))
    assert reestimate_batch_norm(model, BATCHES) == 20
    np.testing.assert_allclose(statistics(model)[1], expected(True), rtol=1e-4, atol=1e-5)


def test_nothing_to_do_nothing_to_use_nothing_finite():
    image = keras.Input((4, 4, 3))
    assert reestimate_batch_norm(keras.Model(image, keras.layers.Flatten()(image)), BATCHES) == 0
    model = network()
    before = statistics(model)[1]
    with pytest.raises(InputError, match="no images"):
        reestimate_batch_norm(model, [])
    with pytest.raises(InputError, match="not finite"):
        reestimate_batch_norm(model, [np.full((2, 4, 4, 3), np.nan, "f4")])
    norms, after = statistics(model)
    np.testing.assert_array_equal(after, before)
    assert norms[0].momentum == 0.97


def test_ghost_batches_are_off_meanwhile():
    model = network(lambda **options: BatchNorm(group=3, **options))
    reestimate_batch_norm(model, BATCHES)  # 3 divides none of these batches
    norms, found = statistics(model)
    np.testing.assert_allclose(found, expected(True), rtol=1e-4, atol=1e-5)
    assert [x.group for x in norms] == [3, 3]
