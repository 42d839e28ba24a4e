"""Self-supervised visual representation learning in Keras and TensorFlow."""

__version__ = "0.1.0"
