"""Prints the least versions that pyproject.toml allows, as pip's constraints."""

import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
for each in (*project["dependencies"], *extras["dicom"], *extras["serve"]):
    print(each.split(",")[0].replace(">=", "=="))  # noqa: T201
