"""What the installed code imports is what package.xml and pyproject.toml declare.

Imports are read from the syntax tree. An optional package is declared nowhere in package.xml, and
so must be imported late: inside the function that needs it.
"""

from __future__ import annotations

import ast
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections import defaultdict

import pytest
from helpers.paths import ROOT

from amodal_perception.missing_packages import DISTRIBUTIONS, EXTRA_OF, ROS_PACKAGES

tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11 to read pyproject.toml")

ROSDEP_KEYS = {
    "cv2": "python3-opencv",
    "numpy": "python3-numpy",
    "onnxruntime": "python3-onnxruntime-pip",
    "rosbags": "python3-rosbags-pip",
    "scipy": "python3-scipy",
    "tqdm": "python3-tqdm",
    "yaml": "python3-yaml",
}
WITHOUT_KEY = {"pycocotools", "zstandard"}
"""Needed by commands, and known to no rosdep list: docs/installing.md says how to get them."""
OPTIONAL = {
    "cuda": "runs engines",
    "cv_bridge": "encodings that we do not know",
    "lz4": "comes with rosbags",
    "moveit_msgs": "planning scenes",
    "onnx": "`amodal bench` counts a model's operations",
    "ray": "`amodal replay --ray`",
    "safelz4": "comes with newer rosbags",
    "safetensors": "`amodal inspect` of a memory bank",
    "shape_msgs": "with moveit_msgs",
    "vision_msgs": "~/detections",
}
NOT_IMPORTED = {
    "ros2bag": "replay.launch.py runs it",
    "ros2launch": "starts the launch files",
    "rosbag2_storage_mcap": "reads the bag of the package",
    "rosidl_default_runtime": "is under the messages",
    "rclcpp": "examples/planner_client.cpp",
}
INSTALLED = [
    *sorted((ROOT / "amodal_perception").rglob("*.py")),
    *sorted((ROOT / "launch").glob("*.py")),
    *sorted((ROOT / "examples").glob("*.py")),
    ROOT / "scripts" / "amodal",
    ROOT / "scripts" / "amodal_node",
]
TRAINING = sorted((ROOT / "training").rglob("*.py"))
TESTED_BY_COLCON = re.search(r"foreach\(side ([\w ]+)\)", (ROOT / "CMakeLists.txt").read_text())[
    1
].split()


def imports(files) -> dict[str, set[str]]:
    """Return by foreign package where it is imported; late imports are marked."""
    found = defaultdict(set)
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            for name in {name.partition(".")[0] for name in names}:
                if name not in {*sys.stdlib_module_names, "amodal_perception", "training"}:
                    late = " (late)" if node.col_offset else ""
                    found[name].add(f"{file.relative_to(ROOT)}{late}")
    return found


def declared(*kinds: str) -> set[str]:
    """Return the keys of package.xml under these tags."""
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    return {element.text for kind in kinds for element in package.iter(kind)}


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names_of(requirements) -> set[str]:
    return {re.match(r"[\w-]+", requirement)[0] for requirement in requirements}


def test_package_xml_declares_what_installed_code_imports_and_nothing_else():
    found = imports(INSTALLED)
    undeclared = {*WITHOUT_KEY, *OPTIONAL}
    needed = {ROSDEP_KEYS.get(name, name) for name in found if name not in undeclared}
    assert needed | set(NOT_IMPORTED) == declared("depend", "exec_depend")


def test_what_no_key_brings_is_named_where_one_installs():
    page = (ROOT / "docs" / "installing.md").read_text()
    commands = re.findall(r"pip install (.*?)(?: #|$)", page, re.M)
    assert any(set(WITHOUT_KEY) <= set(command.split()) for command in commands)


def test_optional_packages_are_imported_late():
    found = imports(INSTALLED)
    early = {n: [w for w in found[n] if not w.endswith("(late)")] for n in OPTIONAL}
    assert {name: where for name, where in early.items() if where} == {}


def test_pip_installs_what_the_commands_import(project):
    foreign = {
        name
        for name in imports(f for f in INSTALLED if f.is_relative_to(ROOT / "amodal_perception"))
        if name not in {*ROS_PACKAGES, *OPTIONAL, *EXTRA_OF}
    }
    assert {DISTRIBUTIONS.get(name, name) for name in foreign} == names_of(project["dependencies"])


def test_extras_have_what_the_message_says_they_have(project):
    extras = project["optional-dependencies"]
    for module, extra in EXTRA_OF.items():
        assert DISTRIBUTIONS.get(module, module) in names_of(extras[extra])


def test_the_extra_of_training_has_what_training_imports(project):
    foreign = set(imports(TRAINING))
    installed = names_of([*project["dependencies"], *project["optional-dependencies"]["training"]])
    assert {DISTRIBUTIONS.get(name, name) for name in foreign} <= installed


def test_every_ros_package_of_the_messages_is_declared():
    names = {package for package in imports(INSTALLED) if package in ROS_PACKAGES}
    assert names <= declared("depend", "exec_depend")


def test_package_xml_says_what_pyproject_says(project):
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    (author,) = project["authors"]
    maintainer = package.find("maintainer")
    assert package.findtext("name") == project["name"]
    assert package.findtext("version") == project["version"]
    assert package.findtext("license") == project["license"]
    assert " ".join(package.findtext("description").split()) == f"{project['description']}."
    assert (maintainer.text, maintainer.get("email")) == (author["name"], author["email"])


def test_the_citation_is_of_this_version(project):
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    for key in ("version", "license"):
        assert citation[key] == project[key]
    assert citation["title"] == project["name"]
    assert [paper["notes"] for paper in citation["references"]] == [
        "ORCNN", "BCNet", "PGExp", "BLADE",
    ]  # fmt: skip


def test_hooks_run_the_pinned_ruff():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    pins = (ROOT / "requirements" / "test.txt").read_text()
    version = re.search(r"^ruff==(.*)$", pins, re.M)[1]
    assert f"ruff-pre-commit\n    rev: v{version}\n" in hooks


def test_pinned_packages_are_the_declared_ones(project):
    def pinned(name: str) -> set[str]:
        lines = (ROOT / "requirements" / name).read_text().splitlines()
        return names_of(line for line in lines if not line.startswith("#"))

    assert names_of(project["dependencies"]) <= pinned("runtime.txt")


def with_helpers(files) -> set:
    """Return test files and the helpers that they import, directly or not."""
    found, waiting = set(), list(files)
    while waiting:
        file = waiting.pop()
        if file not in found and file.is_file():
            found.add(file)
            names = re.findall(r"^ *from helpers\.(\w+) import", file.read_text(), re.M)
            waiting += [ROOT / "test" / "helpers" / f"{name}.py" for name in names]
    return found


def test_colcon_tests_declare_what_they_import():
    sides = [file for side in TESTED_BY_COLCON for file in (ROOT / "test" / side).rglob("*.py")]
    found = imports(with_helpers([ROOT / "test" / "conftest.py", *sides]))
    keys = ROSDEP_KEYS | {"pytest": "python3-pytest", "hypothesis": "python3-hypothesis"}
    own = {"helpers", "planner_inputs", *OPTIONAL, *WITHOUT_KEY}
    needed = {keys.get(name, name) for name in found if name not in own}
    assert needed <= declared("depend", "exec_depend", "test_depend")
