"""The files around the code: versions and addresses that agree, templates and workflows that can be read."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import emu2eval

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def release_check() -> Any:
    spec = importlib.util.spec_from_file_location(
        "release_check", GITHUB / "workflows/release_check.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_version_changelog_and_citation_agree() -> None:
    assert list(release_check().faults(ROOT, None)) == []


def test_a_release_is_refused_without_day_and_address(tmp_path: Path) -> None:
    (tmp_path / "emu2eval").mkdir()
    for name in ("emu2eval/__init__.py", "CITATION.cff", "CHANGELOG.md", "pyproject.toml"):
        text = (ROOT / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text, encoding="utf-8")
    version, check = emu2eval.__version__, release_check().faults
    log = tmp_path / "CHANGELOG.md"
    log.write_text(f"# Changelog\n\n## {version} (unreleased)\n", encoding="utf-8")
    told = "\n".join(check(tmp_path, "v9.9"))
    assert f"the tag is v9.9, the version {version}" in told
    assert "a release has its day" in told
    log.write_text(f"# Changelog\n\n## {version} (2027-01-31)\n", encoding="utf-8")
    project = tmp_path / "pyproject.toml"
    project.write_text(project.read_text("utf-8").replace(".example", ".org"), encoding="utf-8")
    assert list(check(tmp_path, f"v{version}")) == []


def test_the_citation_is_one() -> None:
    """By the schema of CFF 1.2.0, as far as its keys are used."""
    assert CITATION["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= CITATION.keys()
    assert CITATION["type"] in ("software", "dataset")
    people = [*CITATION["authors"], *(a for r in CITATION["references"] for a in r["authors"])]
    assert all("name" in each or {"family-names", "given-names"} <= each.keys() for each in people)
    assert all({"type", "title", "authors"} <= each.keys() for each in CITATION["references"])
    assert CITATION["license"] == PROJECT["license"]
    assert CITATION["repository-code"] == PROJECT["urls"]["Repository"]
    assert CITATION["url"] == PROJECT["urls"]["Documentation"]


@pytest.mark.parametrize("name", ["bug", "number", "task"])
def test_an_issue_asks_for_the_report(name: str) -> None:
    """By GitHub's syntax for issue forms."""
    form = yaml.safe_load((GITHUB / f"ISSUE_TEMPLATE/{name}.yml").read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= form.keys()
    kinds = {"markdown", "textarea", "input", "dropdown", "checkboxes"}
    assert {each["type"] for each in form["body"]} <= kinds
    ids = [each["id"] for each in form["body"]]
    assert len(ids) == len(set(ids))
    assert all(each["attributes"]["label"] for each in form["body"])
    assert "emu2eval check --report" in form["body"][-1]["attributes"]["label"]


def test_workflows_can_be_read_and_name_what_is_there() -> None:
    for path in sorted((GITHUB / "workflows").glob("*.yml")):
        text = path.read_text(encoding="utf-8")
        workflow = yaml.safe_load(text)
        assert {"name", "permissions", "jobs"} <= workflow.keys()
        for job in workflow["jobs"].values():
            assert all({"uses", "run"} & step.keys() for step in job["steps"]), path.name
        if path.name != "ci.yml":
            assert "not been run" in text, path.name
    assert "release_check.py" in (GITHUB / "workflows/release.yml").read_text(encoding="utf-8")
