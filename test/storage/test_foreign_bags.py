"""Bags as robots' owners have them: foreign topics, thin indexes, cut off, renamed, ROS 1."""

from __future__ import annotations

import shutil
import sqlite3
import struct

import numpy as np
import pytest
import zstandard
from helpers.bag_writing import STORE, image_message, write_bag
from helpers.paths import SHARED_DATA
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from amodal_perception.errors import BagError
from amodal_perception.storage.bag_files import find_bags, image_topics, storage_files
from amodal_perception.storage.bag_frames import read_frames, read_recorded_images

TRIALS = SHARED_DATA / "trials"
IMAGE = "sensor_msgs/msg/Image"
CAMERA = "/cam/image_raw"

quick = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.mark.skipif(not TRIALS.exists(), reason=f"{TRIALS} is not there")
@pytest.mark.parametrize(
    "name",
    [
        "mcap_no_profile/noprofile.mcap",
        "mcap_empty_channel_counts/nocounts.mcap",
        "mcap_two_channels_one_topic/dup_channel.mcap",
        "mcap_power_cut/crash.mcap",
        "mcap_other_schema_beside/json_beside.mcap",
        "mcap_other_schema_beside/protobuf_beside.mcap",
        "mcap_other_schema_beside/schemaless_beside.mcap",
        "mcap_other_schema_beside/unknown_def.mcap",
        "mcap_other_schema_beside/unknown_def2.mcap",
        "sqlite_foreign_definition/idl_other",
        "sqlite_foreign_definition/service_events",
        "sqlite_foreign_definition/unknown_def",
        "bag_part_renamed/renamed",
        "bag_part_renamed/zstd_packed_only",
        "bag_part_renamed/zstd_unpacked",
    ],
)
def test_reported_bags_are_read(name):
    (topic,) = image_topics(TRIALS / name)
    frames = list(read_frames(TRIALS / name))
    assert len(frames) == topic.message_count == (4 if name.endswith(".mcap") else 3)


# MCAP files record by record, in any layout that the format allows.


def record(opcode: int, content: bytes) -> bytes:
    return struct.pack("<BQ", opcode, len(content)) + content


def text(value: str) -> bytes:
    return struct.pack("<I", len(value)) + value.encode()


def sized(content: bytes) -> bytes:
    return struct.pack("<I", len(content)) + content


def camera_messages(count: int = 4) -> list[tuple[int, bytes]]:
    images = np.random.default_rng(0).integers(0, 256, (count, 6, 8, 3), dtype=np.uint8)
    messages = [image_message(image, (10 + i) * 10**9) for i, image in enumerate(images)]
    return [
        ((10 + i) * 10**9, bytes(STORE.serialize_cdr(m, IMAGE))) for i, m in enumerate(messages)
    ]


def mcap_bytes(
    *,
    profile: str = "ros2",
    channels: int = 1,
    beside: tuple[str, str, str] | None = None,
    chunk_messages: int = 2,
    compression: str = "",
    statistics: str = "full",
    count: int = 4,
) -> bytes:
    """Write a camera of `count` images whose publishers take turns.

    Args:
        profile: of the header.
        channels: publishers of the topic.
        beside: schema name, schema encoding and message encoding of another topic.
        chunk_messages: messages in a chunk; 0: no chunks.
        compression: of chunks.
        statistics: ``full``, ``empty`` (no counts), ``zero``, ``none``, or ``no summary``.
        count: images.
    """
    definitions = record(3, struct.pack("<H", 1) + text(IMAGE) + text("ros2msg") + sized(b""))
    for number in range(1, channels + 1):
        definitions += record(
            4, struct.pack("<HH", number, 1) + text(CAMERA) + text("cdr") + sized(b"")
        )
    messages = [
        (1 + i % channels, record_ns, cdr)
        for i, (record_ns, cdr) in enumerate(camera_messages(count))
    ]
    if beside:
        name, schema_encoding, encoding = beside
        schema_id = 2 if name else 0
        if name:
            schema = struct.pack("<H", 2) + text(name) + text(schema_encoding) + sized(b"\x00\xff")
            definitions += record(3, schema)
        definitions += record(
            4, struct.pack("<HH", 99, schema_id) + text("/other") + text(encoding) + sized(b"")
        )
        messages.insert(1, (99, messages[0][1], b"\x0a\x01{}"))
    rows = [
        (number, ns, record(5, struct.pack("<HIQQ", number, 0, ns, ns) + data))
        for number, ns, data in messages
    ]
    data = b"\x89MCAP0\r\n" + record(1, text(profile) + text("test"))
    chunks = b""
    groups = [rows[i : i + chunk_messages] for i in range(0, len(rows), chunk_messages or 1)]
    if not chunk_messages:
        data += definitions + b"".join(row[2] for row in rows)
        groups = []
    for group in groups:
        inner = definitions + b"".join(row[2] for row in group)
        packed = zstandard.compress(inner) if compression else inner
        times = [ns for _, ns, _ in group]
        head = struct.pack("<QQQI", min(times), max(times), len(inner), 0)
        start = len(data)
        data += record(6, head + text(compression) + struct.pack("<Q", len(packed)) + packed)
        length = len(data) - start
        chunks += record(
            8,
            struct.pack("<QQQQ", min(times), max(times), start, length)
            + sized(b"")
            + struct.pack("<Q", 0)
            + text(compression)
            + struct.pack("<QQ", len(packed), len(inner)),
        )
    data += record(15, struct.pack("<I", 0))
    if statistics == "no summary":
        return data + record(2, struct.pack("<QQI", 0, 0, 0)) + b"\x89MCAP0\r\n"
    counts = b"".join(
        struct.pack("<HQ", n, sum(row[0] == n for row in rows)) for n in {row[0] for row in rows}
    )
    total = 0 if statistics == "zero" else len(rows)
    kept = counts if statistics == "full" else b""
    made = len({row[0] for row in rows})
    summary = definitions + chunks
    if statistics != "none":
        times = [ns for _, ns, _ in rows]
        head = struct.pack("<QHIIIIQQ", total, 1, made, 0, 0, len(groups), min(times), max(times))
        summary += record(11, head + sized(kept))
    start = len(data)
    return data + summary + record(2, struct.pack("<QQI", start, 0, 0)) + b"\x89MCAP0\r\n"


BESIDE = st.sampled_from(
    [
        None,
        ("foxglove.Pose", "protobuf", "protobuf"),
        ("Pose", "jsonschema", "json"),
        ("", "", "json"),
        ("", "", "cdr"),
        ("a_msgs/srv/Do_Event", "ros2msg", "cdr"),
        ("a_msgs/action/Go", "ros2idl", "cdr"),
        ("a_msgs/msg/Lost", "unknown", "cdr"),
        ("a_msgs/msg/Lost", "", ""),
    ]
)


@given(
    beside=BESIDE,
    profile=st.sampled_from(["ros2", "", "other"]),
    channels=st.integers(1, 3),
    chunk_messages=st.integers(0, 5),
    compression=st.sampled_from(["", "zstd"]),
    statistics=st.sampled_from(["full", "empty", "zero", "none", "no summary"]),
)
@quick
def test_every_layout_of_mcap_gives_every_frame(tmp_path, **layout):
    path = tmp_path / "any.mcap"
    path.write_bytes(mcap_bytes(**layout))
    (topic,) = image_topics(path)
    assert (topic.name, topic.message_count) == (CAMERA, 4)
    assert [frame.stamp_ns for frame in read_frames(path)] == [i * 10**9 for i in range(10, 14)]
    assert len(list(read_recorded_images(path, CAMERA))) == 4


@given(
    keep=st.floats(0, 1, exclude_max=True),
    chunk_messages=st.integers(0, 4),
    compression=st.sampled_from(["", "zstd"]),
    zeros=st.sampled_from([0, 100]),
)
@quick
def test_cut_mcap_gives_a_beginning(tmp_path, caplog, keep, chunk_messages, compression, zeros):
    """What was written before the cut is read; zeros are what some file systems leave behind."""
    whole = mcap_bytes(chunk_messages=chunk_messages, compression=compression, count=6)
    path = tmp_path / "cut.mcap"
    data_end = whole.rindex(record(15, struct.pack("<I", 0)))
    cut = int(keep * data_end)
    path.write_bytes(whole[:cut] + bytes(zeros))
    caplog.clear()
    all_stamps = [i * 10**9 for i in range(10, 16)]
    try:
        stamps = [frame.stamp_ns for frame in read_frames(path)]
    except BagError:
        assert cut < 1500  # not even the first image is whole
        return
    assert stamps == all_stamps[: len(stamps)]
    assert len(stamps) == len(list(read_recorded_images(path, CAMERA)))
    assert "the recording was not closed" in caplog.text
    if not chunk_messages:
        frame_bytes = len(camera_messages(1)[0][1]) + 31
        assert len(stamps) >= (cut - 200) // frame_bytes - 1


@pytest.mark.parametrize("path", ["drive.bag", "ros1.mcap"])
def test_a_ros1_recording_is_called_one(tmp_path, path):
    path = tmp_path / path
    path.write_bytes(b"#ROSBAG V2.0\n" if path.suffix == ".bag" else mcap_bytes(profile="ros1"))
    for given_path in (path, tmp_path):
        with pytest.raises(BagError, match=r"a ROS 1 recording; convert it.*rosbags-convert"):
            image_topics(find_bags(given_path)[0])


def test_a_ros1_recording_beside_others_is_told(tmp_path, camera, caplog):
    bag = write_bag(tmp_path / "bag", {"/image": camera})
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    assert find_bags(tmp_path) == [bag]
    assert "left out" in caplog.text
    assert "old.bag" in caplog.text


# SQLite


@given(
    encoding=st.sampled_from(["ros2msg", "ros2idl", "unknown", ""]),
    definition=st.sampled_from(["", "int32 a\n---\nint32 b", "module x {", "\ufffd"]),
    digest=st.sampled_from(["", "RIHS01_00"]),
    msgtype=st.sampled_from(["a_msgs/srv/Do_Event", "a/action/Go", "nonsense"]),
    serialization=st.sampled_from(["cdr", "json", "cbor"]),
)
@quick
def test_other_topics_of_sqlite_are_not_judged(
    tmp_path, camera, encoding, definition, digest, msgtype, serialization
):
    shutil.rmtree(tmp_path / "bag", ignore_errors=True)
    bag = write_bag(tmp_path / "bag", {"/image": camera}, StoragePlugin.SQLITE3)
    database = sqlite3.connect(bag / "bag.db3")
    with database:
        database.execute(
            "INSERT INTO message_definitions (topic_type, encoding, encoded_message_definition, "
            "type_description_hash) VALUES (?, ?, ?, ?)",
            (msgtype, encoding, definition, digest),
        )
        database.execute("UPDATE topics SET type_description_hash = ''")
        database.execute(
            "INSERT INTO topics VALUES (77, '/other', ?, ?, 'nonsense: [', '')",
            (msgtype, serialization),
        )
        database.execute("INSERT INTO messages (topic_id, timestamp, data) VALUES (77, 1, x'00')")
    database.close()
    assert len(list(read_frames(bag))) == 3


@pytest.mark.parametrize("merged", [0, 1, 3])
def test_a_write_ahead_log_is_read_and_nothing_is_written_beside_it(
    tmp_path, camera, caplog, merged
):
    source = write_bag(tmp_path / "source", {"/image": camera}, StoragePlugin.SQLITE3)
    database = sqlite3.connect(source / "source.db3")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA wal_autocheckpoint = 0")
    rows = database.execute("SELECT topic_id, timestamp, data FROM messages").fetchall()
    with database:
        database.execute("DELETE FROM messages")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for i, row in enumerate(rows):
        if i == merged:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with database:
            database.execute(
                "INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)", row
            )
    if merged == len(rows):
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    killed = tmp_path / "killed"
    killed.mkdir()
    for file in source.iterdir():
        if not file.name.endswith("-shm"):
            shutil.copy(file, killed)
    database.close()
    before = {file.name: file.read_bytes() for file in killed.iterdir()}
    for path in (killed, killed / "source.db3"):
        assert image_topics(path)[0].message_count == 3
        assert len(list(read_frames(path))) == 3
        assert len(list(read_recorded_images(path, "/image"))) == 3
    assert {file.name: file.read_bytes() for file in killed.iterdir()} == before
    assert ("source.db3-wal are read too" in caplog.text) == (merged < 3)
    logs = [file.name for file in storage_files(killed) if file.name.endswith("-wal")]
    assert bool(logs) == (merged < 3)


# Parts and their names


@pytest.mark.parametrize("named", ["packed", "unpacked"])
@pytest.mark.parametrize("there", ["packed", "unpacked", "both"])
def test_parts_packed_or_unpacked_are_found(tmp_path, camera, named, there):
    mode = CompressionMode.FILE if named == "packed" else CompressionMode.NONE
    bag = write_bag(tmp_path / "bag", {"/image": camera}, compression=mode)
    part = next(p for p in bag.iterdir() if p.name != "metadata.yaml")
    data = part.read_bytes()
    data = zstandard.ZstdDecompressor().decompress(data, 10**6) if named == "packed" else data
    part.unlink()
    if there != "packed":
        (bag / "bag.mcap").write_bytes(data)
    if there != "unpacked":
        (bag / "bag.mcap.zstd").write_bytes(zstandard.compress(data))
    assert len(list(read_frames(bag))) == 3
    (bag / "metadata.yaml").unlink()
    assert len(list(read_frames(bag))) == 3


def test_renamed_parts_are_read_and_told(tmp_path, camera, caplog):
    bag = write_bag(tmp_path / "bag", {"/image": camera})
    (bag / "bag.mcap").rename(bag / "night.mcap")
    assert len(list(read_frames(bag))) == 3
    assert "read although metadata.yaml does not name it: night.mcap" in caplog.text


def test_a_part_after_the_last_that_is_named_is_read(tmp_path, camera, caplog):
    """As a recorder leaves it that was killed after a split."""
    bag = write_bag(tmp_path / "bag", {"/image": camera[:1]})
    rest = write_bag(tmp_path / "rest", {"/image": camera[1:]})
    (rest / "rest.mcap").rename(bag / "bag_1.mcap")
    (bag / "notes.mcap").write_bytes(b"not a part of it")
    assert [frame.stamp_ns // 10**9 for frame in read_frames(bag)] == [10, 11, 12]
    assert "bag_1.mcap" in caplog.text


def test_the_tenth_part_comes_after_the_ninth(tmp_path):
    bag = tmp_path / "bag"
    bag.mkdir()
    for i in range(12):
        image = image_message(np.zeros((6, 8, 3), np.uint8), (100 + i) * 10**9)
        part = write_bag(tmp_path / f"part{i}", {"/image": [image]})
        (part / f"part{i}.mcap").rename(bag / f"bag_{i}.mcap")
    assert [frame.stamp_ns // 10**9 for frame in read_frames(bag)] == list(range(100, 112))
