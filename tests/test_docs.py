"""What README.md and docs/ say can be done: every command's flags parse, every file is there, Python names exist."""

import ast
import importlib
import itertools
import pathlib
import re
import shlex

import pytest

from revisit_ssl.commands import report, sweep
from revisit_ssl.commands.evaluate import parse_evaluation
from revisit_ssl.commands.flags import read_flags
from revisit_ssl.commands.run import parse_run
from revisit_ssl.evaluators import PROBES
from revisit_ssl.papers import NAMES, get_recipe, presets_of
from revisit_ssl.papers.revisiting.recipes import published_settings
from revisit_ssl.recipe import to_json
from revisit_ssl.sweeps.sweep import grid

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
NAME = "(run|evaluate|sweep|report)"
COMMAND = re.compile(rf"(?:python (?:\S*/)?{NAME}\.py|(?:python -m revisit_ssl|revisit-ssl) {NAME})(?: (.*))?")


def blocks(page):
    """[(language, text)] of a page's fenced blocks."""
    return FENCE.findall(page.read_text(encoding="utf-8"))


def spans(page):
    """What stands between single backticks in a page, outside of its blocks."""
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text(encoding="utf-8")))


def commands(text):
    """[(command, [argument])] of a shell text; variables stand for 0."""
    found = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        for part in re.split(r"&&|;", re.sub(r"\$\w+", "0", line)):
            if match := COMMAND.search(part):
                words = shlex.split(match[3] or "", comments=True)
                arguments = itertools.takewhile(lambda word: word not in (">", "|", "…"), words)
                found.append((match[1] or match[2], list(arguments)))
    return found


def parse(command, arguments):
    """Reads the flags as the command does, and does nothing else; InputError where they are none."""
    if "--help" in arguments and command == "run":
        with pytest.raises(SystemExit, match="0"):
            parse_run(arguments)
    elif command == "run":
        for name, value in itertools.pairwise(arguments):
            if name == "--recipe":
                write_recipe(value)
        parse_run(arguments)
    elif command == "evaluate":
        write_recipe(f"{arguments[0]}/recipe.json")
        parse_evaluation(arguments)
    elif command == "sweep":
        family, *flags = arguments
        options, overrides = read_flags(
            sweep.Sweep, flags, default=sweep.Sweep(family=family), return_unknown_args=True
        )
        assert grid(options, overrides, "runs", parse_run)
    else:
        read_flags(report.Report, arguments)


def write_recipe(path):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_json(get_recipe("rotation", "smoke")))


EVERY = sorted(
    {
        (page.name, command, tuple(arguments))
        for page in PAGES
        for text in (*(text for _, text in blocks(page)), *spans(page))
        for command, arguments in commands(text)
        if arguments
    }
)


def test_the_commands_are_found():
    assert {command for _, command, _ in EVERY} == {"run", "evaluate", "sweep", "report"}
    assert len(EVERY) > 40
    loop = "for s in 0 1; do python experiments/run.py rotation --seed $s; done  # twice\n"
    assert commands(loop) == [("run", ["rotation", "--seed", "0"])]
    assert commands("python -m revisit_ssl report a \\\n  b > t.md") == [("report", ["a", "b"])]


@pytest.mark.parametrize(
    ("page", "command", "arguments"),
    EVERY,
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else value,
)
def test_a_command_parses(page, command, arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    parse(command, list(arguments))


def test_flags_that_are_only_named_exist(capsys):
    """Those of single methods, in disputed.md, are held to the recipes in test_recipe.py."""
    known = {"--preset", "--width", "--backbone", "--recipe", "--probes", "--protocol", "--no-deps"}  # the last: pip
    for call in (
        lambda: parse_run(["npid_cld", "--probes", *PROBES, "--help"]),
        lambda: parse_evaluation(["--help"]),
        lambda: read_flags(report.Report, ["--help"]),
        lambda: read_flags(sweep.Sweep, ["--help"]),
    ):
        with pytest.raises(SystemExit, match="0"):
            call()
    known |= set(re.findall(r"--[a-z][\w.-]*", capsys.readouterr().out))
    pages = [page for page in PAGES if page.name not in ("disputed.md", "bad_inputs.md")]
    named = {span.split()[0] for page in pages for span in spans(page) if span.startswith("--")}
    assert len(named) > 40 and named <= known, named - known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_linked_files_are_there(page):
    links = re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text(encoding="utf-8")))
    missing = [link for link in links if "://" not in link and not (page.parent / link.partition("#")[0]).exists()]
    assert not missing, f"{page.name} links {missing}"
    # Files of this repository that are only named: with a folder, and no pattern or placeholder.
    named = [span for span in spans(page) if re.fullmatch(r"(docs|tests|experiments|revisit_ssl)/[\w./]+", span)]
    assert not [name for name in named if not (ROOT / name).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_imports_what_is_there(page):
    for language, text in blocks(page):
        if language == "python":
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.ImportFrom):
                    names = [alias.name for alias in node.names]
                    assert all(hasattr(importlib.import_module(node.module), name) for name in names), names


def test_the_recipes_of_the_readme_can_be_had():
    call = re.search(r"get_recipe\((.*)\)", README.read_text(encoding="utf-8"))[0]
    recipe = eval(call, {"get_recipe": get_recipe})
    assert recipe.probes["knn"].temperature == 0.07 and recipe.optimizer.lr == 0.05 and recipe.seed == 1


def test_the_readme_is_short_and_says_how_to_begin_and_to_test():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 140
    assert "\n```\npython -m pip install -e . && python experiments/run.py rotation\n```\n" in text
    tests = 'python -m pip install -e ".[dev]" && python -m pytest'
    assert f"`{tests}`" in text and f"{tests}\n" in (ROOT / ".ci" / "run").read_text()


def test_counts_and_presets_that_pages_name():
    assert f"the {len(published_settings())} settings of *Revisiting SSL*" in README.read_text(encoding="utf-8")
    for preset in ("sample", "small", "smoke"):
        assert not [name for name in NAMES if preset not in presets_of(name)]
