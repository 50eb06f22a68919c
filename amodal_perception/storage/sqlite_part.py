"""One ``.db3`` file of a rosbag2 bag, read without judging the topics that nobody asks for."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path

from amodal_perception.errors import BagError
from amodal_perception.storage.recorded_channel import RecordedChannel, full_type_name

logger = logging.getLogger(__name__)
LOG_SUFFIXES = ("-wal", "-journal")


def unmerged_logs(part: Path) -> list[Path]:
    """List what a recorder that was killed left beside a ``.db3`` file: logs with content."""
    logs = [part.with_name(part.name + suffix) for suffix in LOG_SUFFIXES]
    return [log for log in logs if log.is_file() and log.stat().st_size]


class SqlitePart:
    """A ``.db3`` file, open for reading; the user's folder is never written to.

    A log that was not merged is merged into a copy, since SQLite cannot read it otherwise without
    writing beside the file.

    Args:
        path: the file.
        scratch: an empty folder for the copy.

    Raises:
        BagError: no rosbag2 tables in it, or no room for the copy.
        sqlite3.Error: damaged.
    """

    def __init__(self, path: Path, scratch: Path) -> None:
        logs = unmerged_logs(path)
        if not logs and not path.stat().st_size:
            raise BagError(f"{path}: empty; nothing was recorded in it")
        source = _copy_with_logs(path, logs, scratch) if logs else path
        # A plain file may be on a read-only disk: immutable, so that SQLite locks nothing.
        uri = source.resolve().as_uri() + ("" if logs else "?immutable=1")
        self._database = sqlite3.connect(uri, uri=True)
        try:
            tables = {
                name
                for (name,) in self._database.execute(
                    "SELECT name FROM sqlite_master WHERE type = 'table'"
                )
            }
            if not {"topics", "messages"} <= tables:
                raise BagError(f"{path}: an SQLite file, but no ROS 2 bag (no table of messages)")
            self.channels = [
                RecordedChannel(number, topic, full_type_name(msgtype), encoding, count)
                for number, topic, msgtype, encoding, count in self._database.execute(
                    "SELECT topics.id, name, type, serialization_format, count(messages.id) "
                    "FROM topics LEFT JOIN messages ON topics.id = messages.topic_id "
                    "GROUP BY topics.id ORDER BY topics.id"
                )
            ]
        except BaseException:
            self._database.close()
            raise

    def messages(
        self, channels: Collection[RecordedChannel]
    ) -> Iterator[tuple[RecordedChannel, int, bytes]]:
        """Yield (channel, time of recording in nanoseconds, bytes) in the order of recording."""
        by_id = {channel.id: channel for channel in channels}
        marks = ",".join("?" * len(by_id))
        rows = self._database.execute(
            "SELECT topic_id, timestamp, data FROM messages "
            f"WHERE topic_id IN ({marks}) ORDER BY timestamp",
            list(by_id),
        )
        for number, record_ns, data in rows:
            yield by_id[number], record_ns, data

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _copy_with_logs(path: Path, logs: list[Path], scratch: Path) -> Path:
    held = sum(log.stat().st_size for log in logs)
    needed = path.stat().st_size + 2 * held
    if shutil.disk_usage(scratch).free < needed:
        raise BagError(
            f"{path}: {held} bytes of messages are still in {logs[0].name}, and merging them "
            f"into a copy takes {needed} bytes in {scratch.parent}; set TMPDIR to a larger disk"
        )
    logger.warning(
        "%s: the recorder did not end well; %d bytes in %s are read too, from a copy",
        path,
        held,
        ", ".join(log.name for log in logs),
    )
    for file in (path, *logs):
        shutil.copyfile(file, scratch / file.name)
    return scratch / path.name
