"""docs/messages.md lists every message's type hash: a change is noticed and wants two lines.

Programs and bags of others are built on these messages, and a hash changes with anything that they
would notice: a field's name, type or place, here or in a message inside.
"""

from __future__ import annotations

import json
import re

import pytest
from helpers.paths import ROOT

PACKAGE = "amodal_perception"
INTERFACES = sorted([*(ROOT / "msg").glob("*.msg"), *(ROOT / "srv").glob("*.srv")])
SHOWN_DIGITS = 16
ROW = re.compile(rf"^\| `(\w+)` \| (\S+) \| `([0-9a-f]{{{SHOWN_DIGITS}}})` \|$", re.M)


def written_rows(page: str) -> dict[str, list[tuple[str, str]]]:
    """Return by type its rows (version, hash), newest first, as the page has them."""
    rows: dict[str, list[tuple[str, str]]] = {}
    for name, version, digits in ROW.findall(page):
        rows.setdefault(name, []).append((version, digits))
    return rows


def section_of(changelog: str, version: str) -> str:
    """Return what the changelog says of a version; `Forthcoming` is the next one."""
    parts = re.split(r"^(\S.*)\n-{3,}$", changelog, flags=re.M)
    titles = [title.split(" ")[0] for title in parts[1::2]]
    return parts[2::2][titles.index(version)] if version in titles else ""


def problems(hashes: dict[str, str], page: str, changelog: str) -> list[str]:
    """Say what a change of messages still wants."""
    rows, found = written_rows(page), []
    for name, digits in hashes.items():
        newest = rows.get(name, [("", "")])[0]
        if newest[1] != digits:
            found.append(
                f"{name} has changed: write `| `{name}` | Forthcoming | `{digits}` |` above its "
                f"row in docs/messages.md, and a line with ``{name}`` under the top heading of "
                "CHANGELOG.rst that says what others must do"
            )
    for name, history in rows.items():
        if name not in hashes:
            found.append(f"{name} is gone: its row in docs/messages.md must go, too")
        for version, _ in history[:-1]:  # the last row is its first publication
            if f"``{name}``" not in section_of(changelog, version):
                found.append(f"CHANGELOG.rst, {version}: no line names ``{name}``")
    return found


def test_every_change_of_a_message_is_written_down(current_hashes):
    page = (ROOT / "docs" / "messages.md").read_text()
    changelog = (ROOT / "CHANGELOG.rst").read_text()
    known = written_rows(page)
    # Without ROS the services' hashes cannot be computed.
    unknown = {name: history[0][1] for name, history in known.items() if (
        name not in current_hashes and (ROOT / "srv" / f"{name}.srv").exists())}  # fmt: skip
    assert problems(current_hashes | unknown, page, changelog) == []


def of_rosbags() -> dict[str, str]:
    """Compute the hashes of the messages without ROS."""
    typesys = pytest.importorskip("rosbags.typesys", reason="needs rosbags")
    types = {}
    for file in INTERFACES:
        if file.suffix == ".msg":
            name = f"{PACKAGE}/msg/{file.stem}"
            types |= typesys.get_types_from_msg(file.read_text(), name)
    store = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
    store.register(types)
    return {name.rpartition("/")[2]: _shown(store.hash_rihs01(name)) for name in types}


def of_rosidl(folder) -> dict[str, str]:
    """Compute the hashes of messages and services as a build does."""
    reason = "needs ROS 2 from Iron on, whose messages have type hashes"
    adapter = pytest.importorskip("rosidl_adapter", reason=reason)
    generator = pytest.importorskip("rosidl_generator_type_description", reason=reason)
    index = pytest.importorskip("ament_index_python.packages", reason=reason)
    idl_tuples = []
    for file in INTERFACES:
        adapter.convert_to_idl(ROOT, PACKAGE, file.relative_to(ROOT), folder)
        idl_tuples.append(f"{folder}:{file.parent.name}/{file.stem}.idl")
    used = ("builtin_interfaces", "geometry_msgs", "sensor_msgs", "service_msgs", "std_msgs")
    arguments = {
        "package_name": PACKAGE,
        "output_dir": str(folder / "descriptions"),
        "idl_tuples": idl_tuples,
        "include_paths": [f"{name}:{index.get_package_share_directory(name)}" for name in used],
    }
    (folder / "arguments.json").write_text(json.dumps(arguments))
    written = generator.generate_type_hash(str(folder / "arguments.json"))
    return {
        file.stem: _shown(json.loads(file.read_text())["type_hashes"][0]["hash_string"])
        for file in written
        if "_" not in file.stem
    }


def _shown(rihs: str) -> str:
    return rihs.removeprefix("RIHS01_")[:SHOWN_DIGITS]


@pytest.fixture(params=["rosbags", "rosidl"])
def current_hashes(request, tmp_path):
    return of_rosbags() if request.param == "rosbags" else of_rosidl(tmp_path)


def test_every_interface_has_a_hash(tmp_path):
    assert set(of_rosidl(tmp_path)) == {file.stem for file in INTERFACES}


PAGE = "| `A` | 0.1.0 | `0123456789abcdef` |\n"
LOG = "Changelog\n===\n\nForthcoming\n-----------\n\n* x\n\n0.1.0 (2026-01-01)\n----\n\n* y\n"


@pytest.mark.parametrize(
    ("digits", "page", "log", "wanted"),
    [
        ("0123456789abcdef", PAGE, LOG, ""),
        ("f" * 16, PAGE, LOG, "A has changed: write"),
        ("f" * 16, f"| `A` | Forthcoming | `{'f' * 16}` |\n{PAGE}", LOG, "no line names ``A``"),
        (
            "f" * 16,
            f"| `A` | Forthcoming | `{'f' * 16}` |\n{PAGE}",
            LOG.replace("* x", "* ``A`` has a new field"),
            "",
        ),
        (None, PAGE, LOG, "A is gone"),
    ],
)
def test_a_change_wants_its_row_and_its_line(digits, page, log, wanted):
    found = problems({"A": digits} if digits else {}, page, log)
    assert [text for text in found if wanted in text] == found
    assert bool(found) == bool(wanted)


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("uint32 image_width ", "uint32 width ", True),
        ("uint32 image_width ", "uint16 image_width ", True),
        ("# best score first", "# in no order", False),
        ("uint8 OK=0", "uint8 OK=7", False),
    ],
)
def test_what_changes_a_hash_is_what_the_page_says(old, new, changes):
    typesys = pytest.importorskip("rosbags.typesys", reason="needs rosbags")
    hashes = []
    for replaced in (old, new):
        text = (ROOT / "msg" / "AmodalScene.msg").read_text()
        assert old in text
        store = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
        types = {}
        for file in INTERFACES:
            if file.suffix == ".msg" and file.stem != "AmodalScene":
                types |= typesys.get_types_from_msg(file.read_text(), f"{PACKAGE}/msg/{file.stem}")
        name = f"{PACKAGE}/msg/AmodalScene"
        store.register(types | typesys.get_types_from_msg(text.replace(old, replaced), name))
        hashes.append(store.hash_rihs01(name))
    assert (hashes[0] != hashes[1]) == changes
