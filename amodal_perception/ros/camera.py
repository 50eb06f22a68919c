"""The image topic: read as bytes, with the reliability that its publishers offer."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image

COMPRESSED_SUFFIX = "/compressed"
# How long the old subscription stays beside the new one, which must find all publishers first.
OVERLAP_S = 2.0


class Camera:
    """Subscribes and unsubscribes; every image goes to `receive`, still serialised.

    Bytes, because rclpy never serves a subscription again whose message it could not deserialise,
    and because an image that a newer one overtakes need not be deserialised at all.
    """

    def __init__(
        self, node: Node, transport: str, reliability: str, receive: Callable[[bytes], None]
    ) -> None:
        """Read the topic ``image``, or ``image/compressed`` for the transport ``compressed``."""
        self.message_type = CompressedImage if transport == "compressed" else Image
        self.topic = self._topic_to_read(node, transport == "compressed")
        self._node, self._receive = node, receive
        override = f"qos_overrides.{self.topic}.subscription.reliability"
        is_overridden = override in node._parameter_overrides
        self._policies = [QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH]
        # Declared only where given: a declared one would hold every later subscription to the
        # reliability of the first.
        self._policies += [QoSPolicyKind.RELIABILITY] if is_overridden else []
        self._follows_publishers = reliability == "auto" and not is_overridden
        self._is_reliable = reliability != "best_effort"
        self._subscription: Any = None
        self._outgoing: Any = None
        self._outgoing_until_s = 0.0
        self._unpaired: dict[Any, Counter[int]] = {}

    @property
    def is_open(self) -> bool:
        """Whether the topic is subscribed to."""
        return self._subscription is not None

    @property
    def is_reliable(self) -> bool:
        """Whether reliable delivery is asked for."""
        if self.is_open:
            return self._subscription.qos_profile.reliability == ReliabilityPolicy.RELIABLE
        return self._is_reliable

    def open(self) -> None:
        """Subscribe."""
        if not self.is_open:
            self._follow()
            self._subscription = self._subscribe()

    def close(self) -> None:
        """Unsubscribe."""
        for subscription in (self._outgoing, self._subscription):
            if subscription is not None:
                self._node.destroy_subscription(subscription)
        self._outgoing = self._subscription = None
        self._unpaired.clear()

    def publishers(self) -> list[Any]:
        """Return who publishes the topic, and how."""
        return self._node.get_publishers_info_by_topic(self.topic)

    def check(self) -> None:
        """Follow the publishers; to be called now and then."""
        if not self.is_open:
            return
        if self._outgoing is not None:
            if time.monotonic() > self._outgoing_until_s:
                self._node.destroy_subscription(self._outgoing)
                self._outgoing = None
                self._unpaired.clear()
        elif self._follow():
            # No image is lost: the old one is heard until the new one has found everyone.
            self._outgoing, self._subscription = self._subscription, self._subscribe()
            self._outgoing_until_s = time.monotonic() + OVERLAP_S
            self._unpaired = {self._outgoing: Counter(), self._subscription: Counter()}
            self._node.get_logger().warning(
                f"{self.topic} is published "
                + ("reliably again" if self._is_reliable else "best-effort: images may be lost")
            )

    def _follow(self) -> bool:
        """Take over the publishers' reliability; return whether it differs from ours."""
        publishers = self.publishers() if self._follows_publishers else []
        if not publishers:
            return False
        before = self._is_reliable
        self._is_reliable = all(
            publisher.qos_profile.reliability == ReliabilityPolicy.RELIABLE
            for publisher in publishers
        )
        return self._is_reliable != before

    def _subscribe(self) -> Any:
        made: list[Any] = []
        subscription = self._node.create_subscription(
            self.message_type,
            self.topic,
            lambda cdr: self._arrive(cdr, made[0]),
            newest_only(reliable=self._is_reliable),
            qos_overriding_options=QoSOverridingOptions(self._policies),
            raw=True,
        )
        made.append(subscription)
        return subscription

    def _arrive(self, cdr: bytes, subscription: Any) -> None:
        if self._outgoing is not None:
            # Both subscriptions hear some publishers; of each pair the second is left out.
            other = next(s for s in self._unpaired if s is not subscription)
            key = hash(cdr)
            if self._unpaired[other][key]:
                self._unpaired[other][key] -= 1
                return
            self._unpaired[subscription][key] += 1
        self._receive(cdr)

    @staticmethod
    def _topic_to_read(node: Node, compressed: bool) -> str:
        """Follow image_transport's habit: remap the base topic, the suffix is added."""
        topic: str = node.resolve_topic_name("image")
        if compressed and not topic.endswith(COMPRESSED_SUFFIX):
            topic += COMPRESSED_SUFFIX
        return topic


def newest_only(reliable: bool = True) -> QoSProfile:
    """Keep only the newest: who is late wants the present, not the past."""
    reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=reliability)
