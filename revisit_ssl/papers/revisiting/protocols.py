"""How Revisiting measures features: the supplement's section 2 (spec D), chosen for large features of ImageNet."""

from revisit_ssl.evaluators import LBFGS, MLP, Linear, LinearImages

REVISITING = {
    # Momentum SGD on random crops: lr 0.1 * B / 256, B 2048, drops at 480 and 500 of 520 epochs.
    "linear_images": LinearImages(batch_size=2048, schedule=(480, 500, 520)),
    # The same numbers on features without augmentation.
    "linear": Linear(
        learning_rates=(0.1,), epochs=(520,), decay_at=(480 / 520, 500 / 520), batch_size=2048, standardize=False
    ),
    # Behind the paper's Table 1 and the supplement's Tables 2 to 4: penalty 100 / (rows * columns) on raw features.
    "lbfgs": LBFGS(mode="paper"),
    # lr 0.01, B 512, 180 epochs with drops at 60 and 120, penalty 100 / (rows * columns), raw features.
    "mlp": MLP(learning_rates=(0.01,), penalties=None, epochs=180, decay_epochs=(60, 120), standardize=False),
}

PROTOCOLS = {"revisiting": REVISITING}
