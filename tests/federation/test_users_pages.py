"""What the users' pages show is true: every YAML of theirs is valid, every link leads somewhere, what they say is refused is."""

import re
from pathlib import Path

import pytest

from federation.validate import validate_paths

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
MISTAKES = ("timout", "ROUNDROBIN")  # of the example that shows how mistakes are told


def examples():
    for page in PAGES:
        for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)):
            yield pytest.param(text, id=f"{page.name}-{number}")


def anchors(page):
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("text", list(examples()))
def test_an_example_is_valid(text, tmp_path):
    file = tmp_path / "example.yaml"
    file.write_text(text)
    report = validate_paths([file])
    errors = [error.message for document in report.documents for error in document.errors]
    if all(mistake in text for mistake in MISTAKES):
        assert len(errors) == 2
    else:
        assert not errors
        assert report.documents


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_kinds_that_the_page_says_are_refused_are(tmp_path):
    page = (ROOT / "docs" / "configuration.md").read_text()
    row = re.search(r"^\| kinds \| (PeerAuthentication, .*), every kind of the Gateway API \|$", page, re.MULTILINE)
    assert row is not None
    groups = {"PeerAuthentication": "security", "RequestAuthentication": "security", "AuthorizationPolicy": "security"}
    for kind in row[1].split(", "):
        group = f"{groups.get(kind, 'telemetry' if kind == 'Telemetry' else 'networking')}.istio.io"
        if kind == "Drill":
            group = "fedgate.io"
        file = tmp_path / "kind.yaml"
        file.write_text(f"apiVersion: {group}/v1\nkind: {kind}\nmetadata: {{name: a}}\nspec: {{}}\n")
        (document,) = validate_paths([file]).documents
        assert [error.message for error in document.errors] == [f"{kind} ({group}) is not supported yet; remove it"]
