"""Collapse measures against NumPy."""

import numpy as np
import pytest

from revisit_ssl.features.collapse import effective_rank, feature_std


def test_effective_rank_of_known_spectra():
    draw = np.random.default_rng(0)
    left, _ = np.linalg.qr(draw.normal(size=(50, 8)))
    right, _ = np.linalg.qr(draw.normal(size=(8, 8)))
    assert effective_rank(left @ right) == pytest.approx(8)
    spectrum = np.array([4.0, 2.0, 1.0, 1.0, 0, 0, 0, 0])
    share = spectrum[:4] / 8
    assert effective_rank((left * spectrum) @ right) == pytest.approx(np.exp(-(share * np.log(share)).sum()))
    assert effective_rank(np.outer(draw.normal(size=50), draw.normal(size=8))) == pytest.approx(1, abs=1e-6)
    assert effective_rank(np.zeros((5, 3))) == 0
    assert effective_rank(100 * left) == pytest.approx(effective_rank(left))


def test_feature_std():
    draw = np.random.default_rng(0)
    features = draw.normal(size=(4000, 64)).astype(np.float32)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert feature_std(features) == pytest.approx(unit.std(axis=0).mean(), rel=1e-5)
    assert feature_std(features) == pytest.approx(1 / 8, rel=0.01)  # spread evenly: 1 / sqrt(64)
    assert feature_std(np.tile(features[:1], (10, 1)) * np.arange(1, 11)[:, None]) == pytest.approx(0, abs=1e-7)
    assert feature_std(np.zeros((4, 3))) == 0
