"""Files and names that others have made: no name leaves its folder, no text becomes HTML."""

import json

import keras
import pytest

from revisit_ssl.backbones import load_backbone
from revisit_ssl.errors import InputError
from revisit_ssl.papers import get_recipe
from revisit_ssl.recipe import to_json
from revisit_ssl.report.blocks import (
    Bullets,
    Facts,
    Folded,
    Heading,
    KeyNumbers,
    Picture,
    Table,
    Text,
    as_html,
    as_markdown,
    plain,
)
from revisit_ssl.training.workdir import from_json
from revisit_ssl.values import check_plain

NAMES = ["../../evil/x", "/etc/x", "..", "a/b", "a\\b", "", " ", ".hidden", "a\n", "a\0", "é", 3, None]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_plain_name(name):
    with pytest.raises(InputError, match="is no plain name; expected letters, digits"):
        check_plain(name, "endpoint")


@pytest.mark.parametrize("name", ["pre_logits", "block3", "my-layer.2", "_x"])
def test_what_is_one(name):
    check_plain(name, "endpoint")


def test_an_endpoint_of_a_foreign_recipe_or_backbone(tmp_path):
    values = json.loads(to_json(get_recipe("rotation", "smoke")))
    values["bench"]["endpoints"] = ["../../evil/x"]
    with pytest.raises(InputError, match=r"theirs.json: endpoint '../../evil/x' is no plain name"):
        from_json(json.dumps(values), "theirs.json")
    images = keras.Input((8, 8, 3))
    features = keras.layers.GlobalAveragePooling2D()(images)
    keras.Model(images, {"pre_logits": features, "../../evil/x": features}).save(tmp_path / "backbone.keras")
    with pytest.raises(InputError, match=r"backbone.keras': endpoint '../../evil/x' is no plain name"):
        load_backbone(tmp_path / "backbone.keras")


# In file names, class names, commands and notes of others a tag may stand; a further one is one line.
TEXTS = [
    "<script>alert(1)</script>",
    "runs/<img src=x onerror=alert(1)>/a",
    "`<script>` and <script>",
    "``<script>`",
    "\\`<script>`",
    "`\n\n<script>`",
    "a | `|<script>` | b",
    "**<script>** &lt;script&gt; & more",
]


@pytest.mark.parametrize("text", TEXTS)
def test_no_text_becomes_html(text):
    """A CommonMark renderer that lets HTML through finds none in the Markdown page, nor has the HTML page a tag."""
    render = pytest.importorskip("markdown_it").MarkdownIt("commonmark", {"html": True}).enable("table").render
    blocks = [
        Heading(text), Text(text), Bullets([text]), KeyNumbers([(text, text)]), Facts([(text, text)]),
        Table([text, "b"], [[text, text]], notes=(text,)), Folded(text, Table(["a"], [[text]])),
        Picture("name", b"", text),
    ]
    for made in (render(as_markdown(text, blocks)), as_html(text, blocks)):
        assert "<script" not in made and "<img src=x" not in made
        assert "alert(1)" in made or "alert" not in text


def test_code_is_shown_as_it_is():
    assert plain("`a < b` & c\nd") == "`a < b` &amp; c d"
    assert plain(3.5) == "3.5"


def test_a_place_of_the_page_in_a_path_is_a_text():
    page = as_html("runs/{body}/{style}", [Text("in {title}")])
    assert page.count("runs/{body}/{style}") == 2 and page.count("in {title}") == 1 and page.count("<p>") == 1
