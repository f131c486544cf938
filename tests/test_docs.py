"""What the documentation shows of descriptions and classes is read by the program that it is about."""

import re
from pathlib import Path

import yaml

from clan.domains import Classes, DescriptionFile

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_the_descriptions_in_the_documentation_are_valid():
    text = (DOCS / "your-data.md").read_text(encoding="utf-8")
    whole, splits, classes = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", text, re.DOTALL))
    description = DescriptionFile.model_validate({"name": "rides"} | whole | splits)
    assert set(description.splits) == {"night", "train", "small"}
    assert Classes.model_validate(classes).owners["street"] == 0
    keys = set(re.findall(r"^\| `(\w+)`(?:, `(\w+)`)?", text, re.MULTILINE))
    assert {key for pair in keys for key in pair if key} == set(DescriptionFile.model_fields)
