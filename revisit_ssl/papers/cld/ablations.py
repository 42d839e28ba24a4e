"""What the CLD paper varies: its supplement's Tables A.1 to A.4 and Figure A.2."""

from revisit_ssl.report.ablations import Ablation

CLUSTERINGS = {"spectral": "spectral", "kmeans": "k-means", "spherical": "spherical k-means"}
HEADS = {"linear": "Linear", "normlinear": "NormLinear", "mlp": "MLP", "normmlp": "NormMLP"}
WITHOUT = {  # the script at weight 0 with as many crops of an image as CLD needs, so that the term alone is missing
    "npid_cld": {"cld.weight": 0, "crops": 2},
    "moco_cld": {"cld.weight": 0, "crops": 3},
}


def with_term(setting):
    """Whether the setting was trained with CLD at a weight above 0."""
    return bool(setting.task.get("cld", {}).get("weight"))


A1 = Ablation(
    table="Table A.1", title="clustering and number of groups",
    varies={"cld.clustering": "clustering", "cld.groups": "groups"},
    values=tuple((method, k) for method in ("kmeans", "spectral") for k in (10, 64, 128, 256)),
    recipes=("npid_cld",), sweep="cld-a1", label="{}_k{}".format, mine=with_term,
    texts=CLUSTERINGS,
)
# "None" is the same script with weight 0, which is what tells CLD's gain; the paper's is NPID's own recipe.
A2 = Ablation(
    table="Table A.2", title="group branch and cross-augmentation",
    varies={"cld.branch": "branch", "cld.cross": "cross"},
    values=(("shared", False), ("separate", False), ("separate", True)),
    recipes=("npid_cld",), sweep="cld-a2", label=lambda branch, cross: f"{branch}_cross" if cross else branch,
    control=("none", ""), without={"npid_cld": WITHOUT["npid_cld"]}, mine=with_term,
    texts={"shared": "shared", "separate": "separate", False: "no", True: "yes"},
)
A3 = Ablation(
    table="Table A.3", title="weight of CLD", varies={"cld.weight": "λ"},
    values=((0.1,), (0.25,), (0.5,), (1,), (3,)), recipes=("npid_cld", "moco_cld"), sweep="cld-a3",
    label="weight{}".format, control=("0",), without=WITHOUT, mine=with_term,
)
# One temperature for instances and groups; MoCo + CLD by its best numbers.
A4 = Ablation(
    table="Table A.4", title="temperature, of instances and groups",
    varies={"temperature": "T", "cld.temperature": ""},
    values=tuple((t, t) for t in (0.07, 0.1, 0.2, 0.3, 0.4, 0.5)), recipes=("moco_cld",), sweep="cld-a4",
    label=lambda t, _: f"temperature{t}", mine=with_term,
)
NEGATIVES = Ablation(
    table="Figure A.2", title="number of negatives", varies={"queue_size": "negatives"},
    values=tuple((k,) for k in (256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 49152)), recipes=("moco",),
    sweep="cld-figure-a2", label="queue{}".format, least=3, ignored=("cld",),
    mine=lambda setting: setting.run.pretext == "moco" and not with_term(setting),
)
ABLATIONS = (A1, A2, A3, A4)
