"""Subscriptions of camera topics: serialised messages, QoS adapted to the publishers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
)
from rclpy.qos_overriding_options import QoSOverridingOptions

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

# How long the old subscription stays beside the new one, which must find all publishers first.
OVERLAP_S = 1.0


class CameraSubscription:
    """A subscription to be opened and closed; messages reach `receive` serialised.

    Bytes, because rclpy never serves a subscription again whose message it could not deserialise,
    and because an image that a newer one overtakes need not be deserialised at all.
    """

    def __init__(
        self,
        node: Node,
        topic: str,
        message_type: Any,
        receive: Callable[[bytes], None],
        reliability: str = "auto",
    ) -> None:
        """Name the topic; `open` subscribes.

        Args:
            node: the node.
            topic: name before remapping.
            message_type: class of the topic's messages.
            receive: called with each, in the executor's thread.
            reliability: ``reliable``, ``best_effort``, or ``auto``: as all publishers offer it.
        """
        self.topic: str = topic if topic.startswith("/") else node.resolve_topic_name(topic)
        self.message_type = message_type
        self.last_received_s: float | None = None
        self.received = 0
        self.unmatched_policy = ""
        self._unmatched_among: set[tuple[int, ...]] = set()
        self._node, self._receive = node, receive
        prefix = f"qos_overrides.{self.topic}.subscription."
        # Declared only where given: a declared one would hold every later subscription to the
        # policies of the first.
        overridden = [
            kind
            for kind in (QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY)
            if prefix + kind.name.lower() in node._parameter_overrides
        ]
        self._policies = [QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, *overridden]
        self._followed = {QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY} - set(overridden)
        if reliability != "auto":
            self._followed.discard(QoSPolicyKind.RELIABILITY)
        self._is_reliable = reliability != "best_effort"
        self._is_latched = False
        self._subscription: Any = None
        self._outgoing: Any = None
        self._opened_s = self._outgoing_until_s = 0.0
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

    @property
    def type_name(self) -> str:
        """Full name of the type that is read, such as ``sensor_msgs/msg/Image``."""
        package = self.message_type.__module__.split(".")[0]
        return f"{package}/msg/{self.message_type.__name__}"

    @property
    def silent_s(self) -> float:
        """Since the last message, or since the subscription; seconds."""
        return time.monotonic() - (self.last_received_s or self._opened_s) if self.is_open else 0.0

    def open(self) -> None:
        """Subscribe."""
        if not self.is_open:
            self._opened_s = time.monotonic()
            self._follow()
            self._subscription = self._subscribe()

    def close(self) -> None:
        """Unsubscribe."""
        for subscription in (self._outgoing, self._subscription):
            if subscription is not None:
                self._node.destroy_subscription(subscription)
        self._outgoing = self._subscription = None
        self._unpaired.clear()
        self.last_received_s, self.unmatched_policy = None, ""

    def publishers(self) -> list[Any]:
        """Return the topic's publishers, with their types and QoS."""
        return self._node.get_publishers_info_by_topic(self.topic)

    def check(self) -> None:
        """Follow the publishers' QoS; to be called now and then.

        Reliability, lest images get lost; durability, lest a message that was published once and
        latched, as camera_info often is, is never heard.
        """
        if not self.is_open:
            return
        if self.unmatched_policy and not self._unmatched_among <= self._publisher_ids():
            self.unmatched_policy = ""  # one of them left; no event tells whether it was that one
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

    def _follow(self) -> bool:
        """Take over what all publishers offer; return whether that is a change."""
        offered = [publisher.qos_profile for publisher in self.publishers()]
        if not offered:
            return False
        before = self._is_reliable, self._is_latched
        if QoSPolicyKind.RELIABILITY in self._followed:
            self._is_reliable = all(
                qos.reliability == ReliabilityPolicy.RELIABLE for qos in offered
            )
        if QoSPolicyKind.DURABILITY in self._followed:
            self._is_latched = all(
                qos.durability == DurabilityPolicy.TRANSIENT_LOCAL for qos in offered
            )
        if self.is_open and self._is_reliable != before[0]:
            self._node.get_logger().warning(
                f"{self.topic} is published "
                + ("reliably again" if self._is_reliable else "best-effort: images may be lost")
            )
        return before != (self._is_reliable, self._is_latched)

    def _subscribe(self) -> Any:
        made: list[Any] = []
        subscription = self._node.create_subscription(
            self.message_type,
            self.topic,
            lambda cdr: self._arrive(cdr, made[0]),
            newest_only(reliable=self._is_reliable, latched=self._is_latched),
            qos_overriding_options=QoSOverridingOptions(self._policies),
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._note_unmatched),
            raw=True,
        )
        made.append(subscription)
        return subscription

    def _publisher_ids(self) -> set[tuple[int, ...]]:
        return {tuple(publisher.endpoint_gid) for publisher in self.publishers()}

    def _note_unmatched(self, event: Any) -> None:
        kind = QoSPolicyKind(event.last_policy_kind)
        if kind in self._followed:
            self.check()  # at once, and not when its turn comes: images arrive already
        else:
            self.unmatched_policy = kind.name.lower()
            self._unmatched_among = self._publisher_ids()

    def _arrive(self, cdr: bytes, subscription: Any) -> None:
        if self._outgoing is not None:
            # Both subscriptions hear some publishers; of each pair the second is left out.
            other = next(s for s in self._unpaired if s is not subscription)
            key = hash(cdr)
            if self._unpaired[other][key]:
                self._unpaired[other][key] -= 1
                return
            self._unpaired[subscription][key] += 1
        self.last_received_s = time.monotonic()
        self.received += 1
        self._receive(cdr)


def transport_topic(node: Node, name: str, transport: str) -> str:
    """Resolve a topic as image_transport does: the transport is added after remapping.

    Args:
        node: the node.
        name: of the topic, before remapping.
        transport: such as ``compressed``; empty for raw images.
    """
    topic: str = node.resolve_topic_name(name)
    suffix = f"/{transport}" if transport else ""
    return topic if topic.endswith(suffix) else topic + suffix


def newest_only(reliable: bool = True, latched: bool = False) -> QoSProfile:
    """QoS that keeps the last message only (depth 1): late readers want the newest.

    Args:
        reliable: delivery is repeated until it is confirmed.
        latched: who comes late gets the last message too (transient local).
    """
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=1,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )
