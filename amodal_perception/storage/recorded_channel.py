"""One stream of messages in a storage file, as MCAP and SQLite parts name it alike."""

from __future__ import annotations

from dataclasses import dataclass

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
MAX_STAMP_NS = 2**31 * 10**9
"""What a header can hold: its seconds are an int32."""


@dataclass(frozen=True)
class RecordedChannel:
    """A channel of an MCAP file, or a topic's row of an SQLite file.

    Several channels of one part may have the same topic: each publisher has its own.

    Attributes:
        id: number inside the part.
        topic: its name.
        msgtype: full name, ``sensor_msgs/msg/Image``; what is no ROS type is left as it is.
        message_encoding: ``cdr`` is what ROS 2 writes.
        message_count: messages in the part.
    """

    id: int
    topic: str
    msgtype: str
    message_encoding: str
    message_count: int

    @property
    def is_image(self) -> bool:
        """Whether its messages are images that ROS 2 serialised."""
        return self.msgtype in IMAGE_TYPES and self.message_encoding == "cdr"


def full_type_name(msgtype: str) -> str:
    """Some recorders write ``sensor_msgs/Image`` for ``sensor_msgs/msg/Image``."""
    package, slash, name = msgtype.partition("/")
    return f"{package}/msg/{name}" if slash and "/" not in name else msgtype
