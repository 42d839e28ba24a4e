"""What tests of probes that train on images share."""

import pytest


@pytest.fixture
def trained_on(monkeypatch):
    """[int64 [B]]: the images of each training step, in its order, filled while a probe trains."""
    from revisit_ssl.evaluators import augment

    seen, real = [], augment.train_batches

    def recorded(*args, **kwargs):
        for batch in real(*args, **kwargs):
            seen.append(batch["index"].numpy())
            yield batch

    monkeypatch.setattr(augment, "train_batches", recorded)
    return seen
