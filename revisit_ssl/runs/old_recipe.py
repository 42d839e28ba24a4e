"""recipe.json as it was written when the options of probes, of networks were fields of the recipe, in today's form.

The numbers of the settings are those of that time, whatever the papers' protocols say later.
"""

BENCH = {f"probe_{name}": name for name in ("dataset", "fraction", "balanced", "train", "split", "values", "pooling")}
VIEW = {"probe_normalize": "normalize"} | {f"eval_{name}": name for name in ("method", "resize", "size", "combine")}
OTHERS = (
    "probe_setting", "probe_schedule", "probe_lr", "probe_batch_size", "probe_scale_lr", "probe_weight_decay",
    "probe_batch_norm", "probe_penalty", "knn_temperature", "finetune_weight_decay", "finetune_rates",
    "finetune_epochs", "few_shot_ways", "few_shot_queries", "few_shot_classes", "voc_svm_crop",
)
NETWORK = (
    "stem", "norm", "bn_momentum", "bn_epsilon", "bn_group", "recompute", "root_stride", "strides", "stride_on_second",
    "zero_init_residual", "endpoints_after_pool", "representation_size",
)

PAPER = {
    "linear": {
        "learning_rates": [0.1], "epochs": [520], "decay_at": [480 / 520, 500 / 520], "batch_size": 2048,
        "standardize": False,
    },
    "linear_images": {"batch_size": 2048, "schedule": [480, 500, 520]},
    "lbfgs": {"mode": "paper"},
    "mlp": {
        "learning_rates": [0.01], "penalties": None, "epochs": 180, "decay_epochs": [60, 120], "standardize": False,
    },
    "finetune": {"learning_rates": [0.01], "head_multipliers": [100.0]},
}
CONTRASTIVE = {"crop": "resized", "flip": True, "batch_size": 256, "learning_rates": [30.0], "start": "normal"}
SETTINGS = {
    "select": {},
    "paper": PAPER,
    "moco": PAPER | {"linear_images": CONTRASTIVE | {"schedule": [60, 80, 100]}},
    "infomin": PAPER
    | {"linear_images": CONTRASTIVE | {"scale": [0.2, 1.0], "schedule": [30, 40, 50, 60], "factor": 0.2}},
    "obow": PAPER
    | {
        "linear": {
            "learning_rates": [10.0], "epochs": [50], "decay_at": [0.3, 0.6, 0.9], "standardize": False,
            "weight_decay": 2e-6, "flip": True, "start": "normal",
        },
        "linear_images": {
            "crop": "resized", "flip": True, "batch_size": 1024, "learning_rates": [2.5], "schedule": [100],
            "decay": "cosine", "start": "normal",
        },
        "few_shot": {"ways": 50, "queries": 1, "classes": "novel_1"},
        "finetune": {
            "learning_rates": [2e-4], "head_multipliers": [2500.0], "weight_decay": 0.0, "few_epochs": 40,
        },
    },
    "obow_places": PAPER
    | {
        "linear_images": {
            "flip": True, "batch_size": 256, "learning_rates": [0.01], "schedule": [5, 10, 14], "weight_decay": 1e-4,
            "batch_norm": True, "start": "normal",
        },
    },
}


def upgrade(values):
    """The values of a recipe.json, plain and in today's form; unchanged where they are in it already.

    Args:
        values: dict, as JSON gives it.
    """
    values = with_options(values)
    old = isinstance(values.get("probes"), list) or bool({*BENCH, *OTHERS, "endpoints"} & set(values))
    if not old:
        return values
    views = values.get("views", {})
    bench = {new: values[name] for name, new in BENCH.items() if name in values}
    bench |= {new: views[name] for name, new in VIEW.items() if name in views}
    bench |= {"endpoints": values["endpoints"]} if "endpoints" in values else {}
    setting = protocol = values.get("probe_setting", "select")
    if setting == "paper":  # which was of several papers; of them only CLD looks at neighbours
        protocol = "moco" if {"knn", "nmi", "retrieval"} & set(values.get("probes", ())) else "revisiting"
    kept = {name: value for name, value in values.items() if name not in {*BENCH, *OTHERS, "endpoints"}}
    return kept | {
        "views": {name: value for name, value in views.items() if name not in VIEW},
        "bench": bench,
        "probes": {name: options(name, setting, values) for name in values.get("probes", ["linear"])},
        "protocol": protocol,
    }


def with_options(values):
    """The values with the network's options in a mapping of their own: fields that say nothing are left out."""
    if not set(NETWORK) & set(values):
        return values
    # None and False are what such a recipe says where nothing is set; 0, of a momentum, is something.
    given = {name: values.get(name) for name in NETWORK}
    said = {name: value for name, value in given.items() if value is not None and value is not False}
    kept = {name: value for name, value in values.items() if name not in NETWORK}
    return kept | {"backbone_options": said}


def options(name, setting, values):
    """The plain options of one probe: those of the setting, then what the recipe's own fields change of them."""
    fields = {}
    if name in ("linear", "linear_images"):
        fields = {
            "schedule": "probe_schedule", "learning_rates": "probe_lr", "batch_size": "probe_batch_size",
            "scale_lr": "probe_scale_lr", "weight_decay": "probe_weight_decay",
        }
    if name == "linear_images":
        fields |= {"batch_norm": "probe_batch_norm"}
    if name in ("lbfgs", "mlp"):
        fields = {"penalty_scale": "probe_penalty"}
    if name == "knn":
        fields = {"temperature": "knn_temperature"}
    if name == "few_shot":
        fields = {part: f"few_shot_{part}" for part in ("ways", "queries", "classes")}
    if name == "voc_svm":
        fields = {"crop": "voc_svm_crop"}
    if name == "finetune":
        fields = {"epochs": "finetune_epochs"}
        fields |= {} if setting == "obow" else {"weight_decay": "finetune_weight_decay"}
    found = SETTINGS[setting].get(name, {}) | {
        field: values[flat] for field, flat in fields.items() if values.get(flat) is not None
    }
    if name == "knn":
        found = {"temperature": 0.1} | found  # sigma, unless another was given
    if name == "finetune" and found.get("epochs") is not None:
        found.pop("few_epochs", None)  # a length that was given held for any share of the labels
    if name == "finetune" and values.get("finetune_rates"):
        trunk, head = values["finetune_rates"]
        found |= {"learning_rates": [trunk], "head_multipliers": [head / trunk]}
    return found
