"""One MCAP file, read as far as it goes: with its index, without it, or cut off anywhere.

The index at the end of the file is used where it accounts for every message. Where it is missing
or says less (statistics are optional in MCAP), the records themselves are walked through.
"""

from __future__ import annotations

import heapq
import logging
import struct
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import zstandard

from amodal_perception.errors import BagError
from amodal_perception.storage.recorded_channel import RecordedChannel, full_type_name

logger = logging.getLogger(__name__)
MAGIC = b"\x89MCAP0\r\n"
FOOTER_BYTES = 9 + 20 + len(MAGIC)
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK = 1, 2, 3, 4, 5, 6
MESSAGE_INDEX, CHUNK_INDEX, STATISTICS, DATA_END = 7, 8, 0x0B, 0x0F
RECORD = struct.Struct("<BQ")
MESSAGE_HEAD = struct.Struct("<HIQQ")
CHUNK_HEAD = struct.Struct("<QQQI")


class Record(NamedTuple):
    """Where a record lies: its kind, and the first and the last byte's place of its content."""

    opcode: int
    start: int
    end: int


@dataclass(frozen=True)
class _Chunk:
    """Compressed messages.

    Attributes:
        start_ns: time of its first message.
        offset, size: where the compressed bytes lie in the file.
        unpacked_size: bytes when unpacked.
        compression: ``zstd``, ``lz4`` or empty.
        channel_ids: whose messages are inside; empty: unknown.
        is_cut: whether the file ends inside it.
    """

    start_ns: int
    offset: int
    size: int
    unpacked_size: int
    compression: str
    channel_ids: frozenset[int] = frozenset()
    is_cut: bool = False


class _Pending(NamedTuple):
    """A message that waits for its turn; `order` keeps equal times in the file's order."""

    record_ns: int
    order: int
    channel_id: int
    start: int
    end: int
    buffer: bytes


class McapPart:
    """An MCAP file, open for reading.

    Raises:
        BagError: no MCAP file, or a ROS 1 recording.
        Exception: damaged bytes surface as struct.error, zstandard.ZstdError and others.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb")
        try:
            self._size = path.stat().st_size
            self._schemas: dict[int, str] = {}
            self._channels: dict[int, tuple[str, int, str]] = {}
            self._chunks: list[_Chunk] = []
            self._loose: list[tuple[int, int, int, int]] = []  # time, channel, start, end
            self._counts: Counter[int] = Counter()
            self._read_header()
            if not self._read_summary():
                self._scan()
            self.channels = [
                RecordedChannel(
                    number,
                    topic,
                    full_type_name(self._schemas.get(schema_id, "")),
                    encoding,
                    self._counts[number],
                )
                for number, (topic, schema_id, encoding) in sorted(self._channels.items())
            ]
        except BaseException:
            self._file.close()
            raise

    def messages(
        self, channels: Collection[RecordedChannel]
    ) -> Iterator[tuple[RecordedChannel, int, bytes]]:
        """Yield (channel, time of recording in nanoseconds, bytes) in the order of recording."""
        by_id = {channel.id: channel for channel in channels}
        for record_ns, _, channel_id, start, end, buffer in self._in_order(by_id.keys()):
            data = buffer[start:end] if buffer else self._read(start, end)
            yield by_id[channel_id], record_ns, data

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _in_order(self, wanted: Collection[int]) -> Iterator[_Pending]:
        """Merge chunks, which may overlap in time, and messages outside them."""
        loose = sorted(message for message in self._loose if message[1] in wanted)
        heap = [
            _Pending(record_ns, start, channel_id, start, end, b"")
            for record_ns, channel_id, start, end in loose
        ]
        chunks = [c for c in self._chunks if not c.channel_ids or c.channel_ids & set(wanted)]
        for chunk in sorted(chunks, key=lambda chunk: (chunk.start_ns, chunk.offset)):
            while heap and heap[0].record_ns < chunk.start_ns:
                yield heapq.heappop(heap)
            buffer = self._unpack(chunk)
            for record in _records(buffer, is_cut=chunk.is_cut):
                if record.opcode != MESSAGE:
                    continue
                channel_id, _, record_ns, _ = MESSAGE_HEAD.unpack_from(buffer, record.start)
                if channel_id in wanted:
                    start = record.start + MESSAGE_HEAD.size
                    order = chunk.offset + record.start
                    message = _Pending(record_ns, order, channel_id, start, record.end, buffer)
                    heapq.heappush(heap, message)
        while heap:
            yield heapq.heappop(heap)

    def _read(self, start: int, end: int) -> bytes:
        self._file.seek(start)
        return self._file.read(end - start)

    def _read_header(self) -> None:
        magic = self._read(0, len(MAGIC))
        if not magic:
            raise BagError(f"{self._path}: empty; nothing was recorded in it")
        if magic != MAGIC:
            raise BagError(f"{self._path}: no MCAP file (its first bytes are others)")
        opcode, length = RECORD.unpack(self._read(len(MAGIC), len(MAGIC) + RECORD.size))
        self._data_start = len(MAGIC) + RECORD.size + length
        profile, _ = _string(self._read(len(MAGIC) + RECORD.size, self._data_start), 0)
        if opcode != HEADER or self._data_start > self._size:
            raise ValueError("no header")
        if profile == "ros1":
            raise ros1_error(self._path)

    def _read_summary(self) -> bool:
        """Read the index; return whether it accounts for all messages, and can be relied upon."""
        footer = self._read(max(self._size - FOOTER_BYTES, 0), self._size)
        if len(footer) < FOOTER_BYTES or not footer.endswith(MAGIC) or footer[0] != FOOTER:
            return False
        (start,) = struct.unpack_from("<Q", footer, RECORD.size)
        if not self._data_start <= start < self._size - FOOTER_BYTES:
            return False
        summary = self._read(start, self._size - FOOTER_BYTES)
        statistics = b""
        try:
            for record in _records(summary):
                content = summary[record.start : record.end]
                if record.opcode == CHUNK_INDEX:
                    self._chunks.append(self._indexed_chunk(content))
                elif record.opcode == STATISTICS:
                    statistics = content
                else:
                    self._take_definition(record.opcode, content)
            if self._is_complete(statistics):
                return True
        except (struct.error, ValueError, IndexError) as error:
            logger.warning("%s: its index is damaged (%s); read without it", self._path, error)
        self._schemas, self._channels, self._chunks = {}, {}, []
        self._counts.clear()
        return False

    def _is_complete(self, statistics: bytes) -> bool:
        if not statistics:
            return False
        total, _, channels, _, _, chunks, _, _ = struct.unpack_from("<QHIIIIQQ", statistics)
        if chunks != len(self._chunks) or not chunks or channels != len(self._channels):
            return False
        map_start = struct.calcsize("<QHIIIIQQ")
        self._counts.update(dict(_map_entries(statistics, map_start, "<HQ")))
        if sum(self._counts.values()) != total or not total:
            self._counts.clear()  # not available, which the format allows
            return False
        schema_ids = {schema_id for _, schema_id, _ in self._channels.values()} - {0}
        return schema_ids <= self._schemas.keys()

    def _indexed_chunk(self, content: bytes) -> _Chunk:
        start_ns, _, offset, _ = struct.unpack_from("<QQQQ", content)
        entries = list(_map_entries(content, 32, "<HQ"))
        at = 36 + 10 * len(entries) + 8
        compression, at = _string(content, at)
        size, unpacked_size = struct.unpack_from("<QQ", content, at)
        data = offset + RECORD.size + CHUNK_HEAD.size + 4 + len(compression) + 8
        if data + size > self._size:
            raise ValueError("a chunk lies outside the file")
        ids = frozenset(channel_id for channel_id, _ in entries)
        return _Chunk(start_ns, data, size, unpacked_size, compression, ids)

    def _scan(self) -> None:
        """Walk through the records, to the end of the data or as far as they are whole."""
        at, is_closed = self._data_start, False
        while not is_closed and at + RECORD.size <= self._size:
            opcode, length = RECORD.unpack(self._read(at, at + RECORD.size))
            record = Record(opcode, at + RECORD.size, at + RECORD.size + length)
            if opcode == 0 or (record.end > self._size and opcode != CHUNK):
                break
            if opcode == CHUNK:
                self._scan_chunk(record)
            elif opcode == MESSAGE:
                head = self._read(record.start, record.start + MESSAGE_HEAD.size)
                channel_id, _, record_ns, _ = MESSAGE_HEAD.unpack(head)
                start = record.start + MESSAGE_HEAD.size
                self._loose.append((record_ns, channel_id, start, record.end))
                self._counts[channel_id] += 1
            elif opcode in (SCHEMA, CHANNEL):
                self._take_definition(opcode, self._read(record.start, record.end))
            is_closed = opcode in (DATA_END, FOOTER)
            at = record.end
        if not is_closed:
            logger.warning(
                "%s: the recording was not closed; read as far as it goes, %d messages (%d of %d "
                "bytes); 'mcap recover' makes a whole file of it",
                self._path,
                sum(self._counts.values()),
                min(at, self._size),
                self._size,
            )

    def _scan_chunk(self, record: Record) -> None:
        head = self._read(record.start, min(record.end, record.start + 64))
        if len(head) < CHUNK_HEAD.size + 12:
            return
        start_ns, _, unpacked_size, _ = CHUNK_HEAD.unpack_from(head)
        compression, at = _string(head, CHUNK_HEAD.size)
        start = record.start + at + 8
        is_cut = record.end > self._size
        size = max(min(record.end, self._size) - start, 0)
        chunk = _Chunk(start_ns, start, size, unpacked_size, compression, is_cut=is_cut)
        buffer = self._unpack(chunk)
        ids: Counter[int] = Counter()
        for inner in _records(buffer, is_cut=chunk.is_cut):
            if inner.opcode == MESSAGE:
                ids[MESSAGE_HEAD.unpack_from(buffer, inner.start)[0]] += 1
            else:
                self._take_definition(inner.opcode, buffer[inner.start : inner.end])
        self._counts.update(ids)
        if ids:
            self._chunks.append(replace(chunk, channel_ids=frozenset(ids)))

    def _take_definition(self, opcode: int, content: bytes) -> None:
        if opcode == SCHEMA:
            name, _ = _string(content, 2)
            self._schemas[struct.unpack_from("<H", content)[0]] = name
        elif opcode == CHANNEL:
            number, schema_id = struct.unpack_from("<HH", content)
            topic, at = _string(content, 4)
            encoding, _ = _string(content, at)
            self._channels[number] = topic, schema_id, encoding

    def _unpack(self, chunk: _Chunk) -> bytes:
        data = self._read(chunk.offset, chunk.offset + chunk.size)
        if chunk.compression == "":
            return data
        if chunk.compression == "zstd":
            if chunk.is_cut:
                return zstandard.ZstdDecompressor().decompressobj().decompress(data)
            unpack = zstandard.ZstdDecompressor().decompress
            return unpack(data, max_output_size=chunk.unpacked_size)
        if chunk.compression == "lz4":
            return _unpack_lz4(data)
        raise BagError(
            f"{self._path}: compressed as {chunk.compression!r}; known are zstd and lz4"
        )


def ros1_error(path: Path) -> BagError:
    """Return the error for a recording of ROS 1, with its remedy."""
    return BagError(
        f"{path}: a ROS 1 recording; convert it to a ROS 2 bag: "
        f"rosbags-convert --src {path.name} --dst {path.stem}_ros2"
    )


def _unpack_lz4(data: bytes) -> bytes:
    """Unpack an LZ4 frame, or as much of it as is there."""
    try:
        from lz4.frame import LZ4FrameDecompressor
    except ImportError:  # Python 3.14 has it in another package, which takes whole frames
        from safelz4.frame import decompress

        return bytes(decompress(data))
    return bytes(LZ4FrameDecompressor().decompress(data))


def _records(buffer: bytes, *, is_cut: bool = False) -> Iterator[Record]:
    """Yield the records of a buffer; of one that is cut off, those that are whole.

    Raises:
        ValueError: damaged.
    """
    at, size = 0, len(buffer)
    while at + RECORD.size <= size:
        opcode, length = RECORD.unpack_from(buffer, at)
        start = at + RECORD.size
        if opcode == 0 or start + length > size:
            break
        at = start + length
        yield Record(opcode, start, at)
    if at != size and not is_cut:
        raise ValueError("records do not fill their chunk")


def _string(content: bytes, at: int) -> tuple[str, int]:
    """Read a string and the place after it."""
    (length,) = struct.unpack_from("<I", content, at)
    end = at + 4 + length
    if end > len(content):
        raise ValueError("a string is longer than its record")
    return content[at + 4 : end].decode(), end


def _map_entries(content: bytes, at: int, layout: str) -> Iterator[tuple[int, int]]:
    (length,) = struct.unpack_from("<I", content, at)
    yield from struct.iter_unpack(layout, content[at + 4 : at + 4 + length])
