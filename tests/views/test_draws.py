import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from revisit_ssl.errors import InputError
from revisit_ssl.views import draws

N = 20_000


@pytest.mark.parametrize(
    "draw, law",
    [
        (lambda s: draws.uniform(s, [N], -2.0, 3.0), stats.uniform(-2, 5)),
        (lambda s: draws.normal(s, [N], 1.0, 2.0), stats.norm(1, 2)),
    ],
    ids=["uniform", "normal"],
)
def test_law(draw, law):
    assert stats.kstest(draw((3, 4)).numpy(), law.cdf).pvalue > 1e-3


def test_integers_are_uniform():
    counts = np.bincount(draws.integers((0, 1), [N], 2, 9).numpy(), minlength=9)
    assert counts[:2].sum() == 0 and stats.chisquare(counts[2:]).pvalue > 1e-3


def test_bernoulli_ends_and_rate():
    assert not draws.bernoulli(5, [N], 0.0).numpy().any() and draws.bernoulli(5, [N], 1.0).numpy().all()
    assert abs(draws.bernoulli(5, [N], 0.3).numpy().mean() - 0.3) < 4 * np.sqrt(0.21 / N)


def test_same_seed_same_draw_other_step_other_draw():
    a, b = (draws.uniform(draws.fold(7, step), [N]).numpy() for step in (0, 1))
    np.testing.assert_array_equal(a, draws.uniform(draws.fold((7, 0), tf.constant(0)), [N]))
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(N)


@pytest.mark.parametrize("how", [{}, {"jit_compile": True}, None], ids=["graph", "xla", "eager"])
def test_numbers_are_those_of_tensorflows_stateless_functions(how):
    def both(key):
        word = {"minval": None, "maxval": None, "dtype": tf.int32, "alg": "philox"}
        bits = tf.random.stateless_uniform([7, 3], key, **word)
        ours = draws.fold(key, 5).key, draws.uniform(key, [7, 3]), draws.integers(key, [9], 3, 77)
        return *ours, (
            tf.random.experimental.stateless_fold_in(key, tf.constant(5, tf.int64), alg="philox"),
            tf.cast(tf.bitwise.right_shift(bits, 8) & 0xFFFFFF, tf.float32) * 2.0**-24,
            tf.random.stateless_uniform([9], key, 3, 77, tf.int32, alg="philox"),
        )

    run = both if how is None else tf.function(both, autograph=False, **how)
    for key in ([1, 2], [-(2**62), 2**40 + 7], [0, 0]):
        *ours, theirs = run(tf.constant(key, tf.int64))
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(mine, other)


def test_compiled_draws_equal_eager_ones():
    """TensorFlow's own stateless_uniform does not pass this."""

    def everything(key):
        seed = draws.fold(key, 5)
        return draws.uniform(seed, [64]), draws.normal(seed, [64]), draws.integers(seed, [64], 0, 100)

    key = tf.constant([1, 2], tf.int64)
    compiled = tf.function(everything, jit_compile=True, autograph=False)(key)
    for ours, theirs in zip(everything(key), compiled, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=2e-6)


def test_replicas_take_the_rows_of_the_global_draw():
    key = draws.as_seed((1, 2)).key
    for draw in (draws.uniform, draws.normal, lambda s, shape: draws.integers(s, shape, 0, 9)):
        whole = draw((1, 2), [6, 3])
        parts = [draw(draws.Seed(key, tf.constant(r), 3), [2, 3]) for r in range(3)]
        np.testing.assert_array_equal(tf.concat(parts, 0), whole)


def test_dropout():
    x = tf.ones([200, 100]) * 3
    out = draws.dropout(x, 0.25, (1, 1)).numpy()
    assert set(np.unique(out)) == {0.0, 4.0}
    assert abs((out == 0).mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / out.size)
    halves = [draws.dropout(x[:100], 0.25, draws.Seed(draws.as_seed((1, 1)).key, r, 2)) for r in range(2)]
    np.testing.assert_array_equal(tf.concat(halves, 0), out)
    assert draws.dropout(x, 0.0, 1) is x
    assert draws.dropout(tf.cast(x, tf.bfloat16), 0.5, 1).dtype == tf.bfloat16
    with pytest.raises(InputError, match="dropout rate"):
        draws.dropout(x, 1.0, 1)
