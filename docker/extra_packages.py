"""Print the packages of one extra: ``extra_packages.py pyproject.toml NAME`` (Python 3.11)."""

import sys
from pathlib import Path

import tomllib

extras = tomllib.loads(Path(sys.argv[1]).read_text())["project"]["optional-dependencies"]
if sys.argv[2] not in extras:
    sys.exit(f"no extra {sys.argv[2]}; there are: {', '.join(extras)}")
print("\n".join(extras[sys.argv[2]]))
