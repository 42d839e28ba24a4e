"""Sets for instance retrieval: Oxford5k and Paris6k, their revisited ground truth, and a folder of one's own.

"test" is the database, whose ``Source.queries`` hold what is asked; "train" are the images that a whitening is learned
on: the database of the other set, as the papers have it.
"""

import csv
import dataclasses
import io
import os
import pickle

import numpy as np
import tensorflow as tf

from revisit_ssl.data import folders, queries
from revisit_ssl.data.dataset import Dataset
from revisit_ssl.errors import DataNotHere, InputError, require

# www.robots.ox.ac.uk/~vgg/data/parisbuildings/corrupt.txt
CORRUPT = frozenset(
    f"paris_{name}"
    for name in (
        "louvre_000136", "louvre_000146", "moulinrouge_000422", "museedorsay_001059", "notredame_000188",
        "pantheon_000284", "pantheon_000960", "pantheon_000974", "pompidou_000195", "pompidou_000196",
        "pompidou_000201", "pompidou_000467", "pompidou_000640", "sacrecoeur_000299", "sacrecoeur_000330",
        "sacrecoeur_000353", "triomphe_000662", "triomphe_000833", "triomphe_000863", "triomphe_000867",
    )
)
PREFIX = "oxc1_"  # of Oxford's query names
_RELATIONS = {"good": queries.GOOD, "ok": queries.OK, "junk": queries.JUNK}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Buildings(Dataset):
    """Oxford Buildings or Paris (Philbin et al., CVPR 2007 and 2008), by their own or by revisitop's ground truth.

    Attributes:
        folder: where it is looked for in the folder of the TFDS sets: images and ground truth anywhere below.
        other: name of the set whose database a whitening is learned on.
        pickled: file name of the revisited ground truth; "": the official text files are read.
        archives: what to get.
        sizes: see ``Dataset``.
    """

    folder: str
    other: str
    archives: str
    pickled: str = ""
    sizes: dict = dataclasses.field(default_factory=dict)
    splits: tuple = ("train", "test")
    asks: bool = True
    argument: str = "the folder of its images and its ground truth"

    def open(self, request):
        if request.split == "train":
            return self._whitening(request)
        root = os.path.expanduser(request.argument) or os.path.join(request.place, self.folder)
        if not tf.io.gfile.isdir(root):
            raise DataNotHere(f"data set {request.name} is not in {root}; {self.how_to_get(request.place)}")
        images = _images(root)
        names, answers, asked, boxes, measures = (self._revisited if self.pickled else self._official)(root, images)
        return _source(request, images, names, answers, asked, boxes, measures)

    def _whitening(self, request):
        try:
            source = request.other(self.other, "test")
        except DataNotHere as error:
            needs = f"the whitening of {request.name} is learned on {self.other}: {error}"
            raise DataNotHere(f"{needs}; or set --instance-retrieval.no-whiten") from None
        return dataclasses.replace(source, name=request.name, split="train", queries=None)

    def _official(self, root, images):
        names = sorted(images)
        found = _named(root, "_query.txt")
        if not found:
            raise InputError(f"{root} has no ground truth …_query.txt; {self.how_to_get(os.path.dirname(root))}")
        answers, asked, boxes = [], [], []
        for path in found:
            words = _words(path)
            wrong = f"{path} is not an image and four coordinates; unpack {self.archives} again"
            require(len(words) == 5, wrong)
            asked.append(words[0].removeprefix(PREFIX))
            boxes.append([_number(word, wrong) for word in words[1:]])
            parts = {kind: path.removesuffix("query.txt") + f"{kind}.txt" for kind in _RELATIONS}
            answers.append({_RELATIONS[kind]: _words(part) for kind, part in parts.items()})
        return names, answers, asked, boxes, queries.ONE

    def _revisited(self, root, images):
        found = _named(root, self.pickled)
        if not found:
            raise InputError(f"{root} has no {self.pickled}; {self.how_to_get(os.path.dirname(root))}")
        truth = read_revisited(found[0])
        names = truth["imlist"]
        kinds = {"easy": queries.GOOD, "hard": queries.OK, "junk": queries.JUNK}
        answers = [{kinds[kind]: [names[i] for i in g[kind]] for kind in kinds} for g in truth["gnd"]]
        return names, answers, truth["qimlist"], [g["bbx"] for g in truth["gnd"]], queries.REVISITED

    def how_to_get(self, place):
        return f"unpack {self.archives} into {os.path.join(place, self.folder)}"


class RetrievalFolder(Dataset):
    """retrieval:/path, a retrieval set of one's own: images, and queries.csv that says which answer which.

    Its columns: query and image, paths from the folder; relation, good (the default), ok or junk; x1, y1, x2, y2, the
    part of the query that is asked for, on any of the query's lines. The database is the sub-folder database where
    there is one, else all images; a query that is in the database is junk to itself. A whitening is learned on the
    images of the sub-folder whitening, where there is one, else on the database.
    """

    splits = ("train", "test")
    asks = True
    argument = "the folder of the images and of queries.csv"

    def open(self, request):
        require(request.argument, "data set retrieval needs a folder behind its name: retrieval:/path/with/queries.csv")
        root = os.path.expanduser(request.argument)
        path = os.path.join(root, "queries.csv")
        if not tf.io.gfile.exists(path):
            raise DataNotHere(f"{path} does not exist; it has columns query, image and, if need be, relation")
        parts = {name.rstrip("/") for name in tf.io.gfile.listdir(root)}
        if request.split == "train" and "whitening" in parts:
            learned = _images(os.path.join(root, "whitening"), root)
            return _listed(request, learned, sorted(learned))
        below = os.path.join(root, "database") if "database" in parts else root
        images = _images(below, root, leave="whitening")
        if request.split == "train":
            source = _listed(request, images, sorted(images))
            return dataclasses.replace(source, fingerprint=f"{source.fingerprint}-database")
        asked, boxes, answers = read_query_list(path)
        everything = images if below == root else images | _images(root, root, leave="whitening")
        for name, answer in zip(asked, answers, strict=True):
            if name in images and all(name not in known for known in answer.values()):
                answer[queries.JUNK].append(name)
            missing = [image for known in answer.values() for image in known if image not in images]
            require(not missing, f"{path}: {missing[:1]} answers {name} and is no image of the database {below}")
        return _source(request, everything, sorted(images), answers, asked, boxes, queries.ONE)


def read_query_list(path):
    """Reads queries.csv of a ``RetrievalFolder``.

    Returns:
        (names of the queries, boxes [Q] of four numbers, [Q] of {relation: names}).

    Raises:
        InputError: a column is missing, or a line says what cannot be.
    """
    with tf.io.gfile.GFile(path) as file:
        rows = csv.DictReader(io.StringIO(file.read()), skipinitialspace=True)
    columns = rows.fieldnames or []
    require({"query", "image"} <= set(columns), f"{path} has columns {columns}; it needs query and image")
    answers, boxes = {}, {}
    for number, row in enumerate(rows, 2):
        kind = (row.get("relation") or "good").strip()
        require(kind in _RELATIONS, f"{path} line {number}: relation {kind!r}; one of {', '.join(_RELATIONS)}")
        answer = answers.setdefault(row["query"], {value: [] for value in _RELATIONS.values()})
        answer[_RELATIONS[kind]].append(row["image"])
        box = [row.get(column) for column in ("x1", "y1", "x2", "y2")]
        if any(box):
            wrong = f"{path} line {number}: {box} is no box; it has four numbers x1, y1, x2, y2, or none"
            boxes[row["query"]] = [_number(value, wrong) for value in box]
    require(answers, f"{path} has no queries; a line is a query and an image that answers it")
    return list(answers), [boxes.get(name, [np.nan] * 4) for name in answers], list(answers.values())


def read_revisited(path):
    """{"imlist", "qimlist": names, "gnd": [{"bbx", "easy", "hard", "junk"}]} of revisitop's pickled ground truth.

    Nothing but plain values and NumPy's arrays is unpickled.

    Raises:
        InputError: it is something else.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            truth = _Plain(io.BytesIO(file.read()), encoding="latin1").load()
        keys = ("bbx", "easy", "hard", "junk")
        truth["gnd"] = [{key: np.asarray(g[key]).ravel().tolist() for key in keys} for g in truth["gnd"]]
        return {key: list(truth[key]) for key in ("imlist", "qimlist", "gnd")}
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, tf.errors.OpError):
        told = "get it again from cmp.felk.cvut.cz/revisitop"
        raise InputError(f"{path} is not the ground truth of a revisited set; {told}") from None


class _Plain(pickle.Unpickler):
    def find_class(self, module, name):
        arrays = module.split(".")[0] == "numpy" and name in ("dtype", "ndarray", "scalar", "_reconstruct")
        if arrays or (module, name) == ("_codecs", "encode"):  # what arrays are made of; and bytes, by protocol 2
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no plain value")


def _source(request, images, names, answers, asked, boxes, measures):
    """The database ``names`` with its queries; ``images``: of both, as ``_images`` gives them."""
    relation, listed = queries.from_names(names, answers)
    boxes = np.array(boxes, np.float64)
    bad = np.flatnonzero((boxes[:, 2:] <= boxes[:, :2]).any(axis=1))
    require(not len(bad), f"{request.name}: query {asked[bad[0]] if len(bad) else ''} has a box without an inside")
    query_images = _listed(request, images, asked)
    measured = {metric: (tuple(right), tuple(junk)) for metric, (right, junk) in measures.items()}
    found = queries.Queries(
        source=query_images, relation=relation, boxes=boxes, listed=listed, measures=measured, names=tuple(asked)
    )
    return dataclasses.replace(_listed(request, images, names), queries=found)


def _listed(request, images, names):
    missing = [name for name in names if name not in images]
    require(not missing, f"{request.name}: {len(missing)} images are not there, {missing[:1]} among them")
    paths, digests = zip(*(images[name] for name in names), strict=True)
    return folders.listed_source(request, folders.of_files(paths, names, digests))


def _images(folder, root=None, leave=""):
    """{name: (path, digest of what it holds)} of the readable images below a folder, but the corrupt ones of Paris: by
    their names without ending, or with a ``root`` by their paths from it, without a folder to ``leave``."""
    found = {os.path.join(folder, name): digest for name, digest in folders.readable(folder).items()}
    require(found, f"{folder} holds no readable images")
    if root is None:
        named = {os.path.splitext(os.path.basename(path))[0]: (path, digest) for path, digest in found.items()}
        return {name: image for name, image in named.items() if name not in CORRUPT}
    named = {path[len(root) :].strip("/"): (path, digest) for path, digest in found.items()}
    return {name: image for name, image in named.items() if not leave or not name.startswith(f"{leave}/")}


def _named(root, ending):
    """Paths below ``root`` whose names end so, sorted."""
    walk = tf.io.gfile.walk(root)
    return sorted(os.path.join(place, name) for place, _, files in walk for name in files if name.endswith(ending))


def _words(path):
    try:
        with tf.io.gfile.GFile(path) as file:
            return file.read().split()
    except tf.errors.OpError:
        raise InputError(f"{path} is missing, a part of the ground truth; unpack it again") from None


def _number(value, wrong):
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(wrong) from None
