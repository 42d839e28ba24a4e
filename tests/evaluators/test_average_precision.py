"""Average precisions: the official tools' values, scikit-learn, rankings by hand."""

import pathlib

import numpy as np
import pytest

from revisit_ssl.evaluators.average_precision import (
    average_precision,
    eleven_point_ap,
    envelope_ap,
    lowered,
    precision_at,
    rank,
    ranked_ap,
    retrieval_map,
)

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens" / "evaluation"


def test_three_flavours_of_voc_equal_the_official_ones():
    golden = np.load(GOLDENS / "voc_classification_ap.npz")
    for c in range(6):
        counted = golden["labels"][:, c] >= 0
        present, scores = golden["labels"][counted, c] == 1, golden["scores"][counted, c]
        step = average_precision(present, lowered(present, scores))
        assert step == pytest.approx(golden["ap_step_sklearn_positives_lowered"][c], abs=1e-10)
        if c < golden["tied_class"]:
            assert envelope_ap(present, scores) == pytest.approx(golden["ap_envelope_svm"][c], abs=1e-10)
            assert eleven_point_ap(present, scores) == pytest.approx(golden["ap_11_point"][c], abs=1e-10)


def test_steps_equal_scikit_learn_with_ties():
    from sklearn.metrics import average_precision_score

    draw = np.random.default_rng(0)
    for _ in range(10):
        present, scores = draw.random(40) < 0.3, draw.integers(0, 8, 40)
        assert average_precision(present, scores) == pytest.approx(average_precision_score(present, scores), abs=1e-12)


def test_eleven_points_and_ties_by_hand():
    # P N P N N P ...: recalls 1/3, 2/3, 1 at precisions 1, 2/3, 1/2; thresholds 0-.3, .4-.6, .7-1.
    assert eleven_point_ap([1, 0, 1, 0, 0, 1], -np.arange(6)) == pytest.approx((4 + 3 * 2 / 3 + 4 / 2) / 11)
    assert average_precision([True, False], lowered([True, False], [1.0, 1.0])) == pytest.approx(0.5)


def test_retrieval_equals_revisitop():
    golden = np.load(GOLDENS / "retrieval_ap.npz")
    ranks = tuple(golden["precision_at"])
    found = retrieval_map(golden["similarity"], golden["relation"], precision_ranks=ranks)
    np.testing.assert_array_equal(rank(golden["similarity"]), golden["ranking"])
    np.testing.assert_allclose(found["ap"], golden["ap"], rtol=0, atol=1e-10)
    np.testing.assert_allclose(found["precision_at_k"], golden["precision_at_k"], rtol=0, atol=1e-10)
    assert found["map"] == pytest.approx(float(golden["mean_ap"]), abs=1e-10)
    np.testing.assert_allclose([found["precision"][k] for k in ranks], golden["mean_precision_at_k"], atol=1e-10)
    assert ranked_ap(golden["check_relation"]) == pytest.approx(float(golden["check_ap"]), abs=1e-12)


@pytest.mark.parametrize(("relation", "options", "expected"), [
    ([1, 3, 1, 0, 2], {}, 0.902777777777),
    ([0, 1], {}, 0.25),
    ([1, 0], {"listed": 2}, 0.5),
    ([2, 1, 0], {"positives": (1,), "junk": (2, 3)}, 1.0),
    ([3, 0, 2], {"positives": (2,), "junk": (1, 3)}, 0.25),
    ([0, 3], {}, np.nan),
])
def test_rankings_by_hand(relation, options, expected):
    np.testing.assert_allclose(ranked_ap(relation, **options), expected, atol=1e-10)


def test_ranked_ap_equals_the_oxford_tool():
    """compute_ap, image by image: junk is passed over and does not advance the rank."""
    draw = np.random.default_rng(1)
    for _ in range(20):
        relation = draw.integers(0, 4, 30)
        listed = int(np.isin(relation, (1, 2)).sum()) + int(draw.integers(0, 3))
        hits, place, ap, old_recall, old_precision = 0, 0, 0.0, 0.0, 1.0
        for r in relation:
            if r == 3:
                continue
            hits += r in (1, 2)
            recall, precision = hits / listed, hits / (place + 1)
            ap += (recall - old_recall) * (old_precision + precision) / 2
            old_recall, old_precision, place = recall, precision, place + 1
        assert ranked_ap(relation, listed=listed) == pytest.approx(ap, abs=1e-12)


def test_precision_stops_at_the_last_positive():
    assert precision_at([0, 1, 1, 0, 0, 0], 5) == pytest.approx(2 / 3)
    assert precision_at([1, 3, 3, 0, 1, 0], 2) == pytest.approx(1 / 2)
    assert np.isnan(precision_at([0, 3], 1))
