"""What a paper is: its numbers, recipes and sweeps, and what its page shows."""

from collections.abc import Callable
from dataclasses import dataclass, field

from revisit_ssl.runs.identity import flatten


@dataclass(frozen=True)
class Variant:
    """A recipe with options changed; ``label`` is what these are called in the name of the run's folder.

    Attributes:
        recipe: its name.
        options: {option: value} as a Result's ``task`` has them: {"cld.weight": 0.25, "queue_size": 4096}.
        backbone, width: of the run, None for the preset's own.
        fields: {flag of a run: value} of what is no option of the method: {"probe_fraction": 0.1}.
    """

    recipe: str
    options: dict = field(default_factory=dict)
    label: str = ""
    backbone: str | None = None
    width: int | None = None
    fields: dict = field(default_factory=dict)

    @property
    def name(self):
        """npid_cld, or npid_cld-kmeans_k10"""
        return f"{self.recipe}-{self.label}" if self.label else self.recipe

    @property
    def flags(self):
        """The options as flags of a run."""
        found = [part for option, value in self.options.items() for part in flag(option, value)]
        for name, value in self.fields.items():
            found += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else (value,))]
        return tuple(found)

    def is_of(self, r):
        """Whether a Result is of such a run, whatever its data and its length."""
        task, asked = flatten(r.task), {"backbone": self.backbone, "width": self.width} | self.fields
        places = {name: getattr(r, RESULT.get(name, name)) for name in asked}
        fits = all(
            value is None or places[name] == value or (isinstance(value, tuple) and places[name] in value)
            for name, value in asked.items()
        )
        return fits and r.name == self.recipe and all(task.get(o) == value for o, value in self.options.items())


# Fields of a recipe that a Result calls something else.
RESULT = {
    "probe_fraction": "labels",
    "probe_split": "split",
    "endpoints": "endpoint",
    "backbone.representation_size": "representation_size",
}


def flag(option, value):
    """("--cld.weight", "0.25") of "cld.weight", 0.25; ("--task.queue-size", "4096") of "queue_size", 4096."""
    name = option.replace("_", "-")
    head, dot, last = name.rpartition(".") if "." in name else ("task", ".", name)
    if isinstance(value, bool):
        return (f"--{head}{dot}{'' if value else 'no-'}{last}",)
    return f"--{head}{dot}{last}", str(value)


@dataclass(frozen=True)
class Gallery:
    """Pictures that need networks and images, drawn apart and shown on the page where they lie beside it.

    Attributes:
        name: as in ``revisit-ssl report --paper PAPER --gallery NAME ARGUMENTS``.
        arguments: what it takes, such as "RUN RUN".
        write: function of (arguments [str], folder, data_dir) that writes the pictures and returns a path to look at.
        pictures: {path from the page: caption}.
    """

    name: str
    arguments: str
    write: Callable
    pictures: dict


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A paper, as PAPERS holds it.

    Attributes:
        name: of its folder, and in the column "paper" of its numbers.
        title: what is printed above its page.
        arxiv: where it stands.
        published: [row] as ``load_published`` gives them.
        recipes: {"npid/small": function of width and backbone that returns a Recipe}.
        about: {recipe: a line} of recipes that are not called as their pretext.
        sweeps: {name: [Variant]}; each runs the cells of one table or figure.
        protocols: {name: {probe: options}}, how it measures features.
        method: function, what a recipe is called in tables.
        printed: tables of its own in ``published`` that ``tables`` shows, and pairs (source, table) of other authors';
            all other numbers stand in one list.
        tables: function of ([Result], [row], folder or None): [(title, Table)], every table of the paper with the
            published numbers and ours in columns of their own.
        ours: function of [Result]: [block], what our own runs say; may be [].
        after: function of [row]: [block], what follows from the published numbers alone.
        commands: function of [Result]: [block], how each part is run.
        runs: function of [Result]: Table, what was run; None: one row per setting.
        reading: texts, how to read a cell, beside those of every page.
        galleries: [Gallery].
    """

    name: str
    title: str
    arxiv: str
    published: list
    recipes: dict
    printed: tuple
    tables: Callable
    sweeps: dict = field(default_factory=dict)
    about: dict = field(default_factory=dict)
    protocols: dict = field(default_factory=dict)
    method: Callable = str
    ours: Callable = lambda results: []
    after: Callable = lambda rows: []
    commands: Callable = lambda results: []
    reading: tuple = ()
    runs: Callable | None = None
    galleries: tuple = ()


def swept(ablation):
    """[Variant] of an ``Ablation``: each recipe without the term, where a cell has that, then each of its cells."""
    found = []
    for recipe in ablation.recipes:
        if recipe in ablation.without:
            options = ablation.without[recipe]
            found.append(Variant(recipe, options, "weight0" if options else ""))
        for point in ablation.values:
            options = dict(zip(ablation.varies, point, strict=True)) | ablation.fixed
            found.append(Variant(recipe, options, ablation.label(*point)))
    return found
