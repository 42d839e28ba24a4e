"""Self-supervised visual representation learning in Keras and TensorFlow.

Five calls make up the whole of it:

>>> recipe = get_recipe("rotation", preset="sample")
>>> backbone = pretrain(recipe, "runs/first")
>>> results = evaluate(backbone, recipe, workdir="runs/first")
>>> print(compare(results, "revisiting"))
>>> features = represent("runs/first", images)["pre_logits"]
"""

from revisit_ssl.startup import prefer_onednn

__version__ = "0.1.0"

prefer_onednn()  # before TensorFlow is loaded, from wherever this package is used

_HOMES = {
    "InputError": "errors",
    "NetworkInput": "features.representation",
    "compare": "papers.pages",
    "evaluate": "evaluation.evaluate",
    "evaluate_random": "evaluation.evaluate",
    "get_recipe": "papers",
    "load_backbone": "backbones",
    "load_pretext": "training.build",
    "pretrain": "training.pretrain",
    "represent": "evaluation.represent",
    "write_report": "papers.pages",
}
__all__ = sorted(_HOMES)


def __getattr__(name):
    # Looked up when first used: `import revisit_ssl` alone should not wait for TensorFlow.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"revisit_ssl.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'revisit_ssl' has no attribute {name!r}; it has {', '.join(__all__)}")
