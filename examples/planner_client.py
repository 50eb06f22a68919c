#!/usr/bin/env python3
"""Example client of the removal-plan service: what to remove before an object can be lifted.

    ros2 run amodal_perception planner_client.py
    ros2 run amodal_perception planner_client.py --node /arm/left/amodal_perception

Waits for a scene in which one object hides another, takes the most hidden one as target, requests
a removal plan, prints it and ends. planner_client.cpp does the same in C++.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import rclpy
from rclpy.utilities import remove_ros_args

from amodal_perception.msg import AmodalScene
from amodal_perception.planning.planner_inputs import decode_mask
from amodal_perception.srv import GetRemovalPlan


def main() -> int:
    """Run the client; return 0 when it has printed a plan."""
    rclpy.init(args=sys.argv)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--node", default="/amodal_perception", help="full name of the node")
    parser.add_argument("--min-confidence", type=float, default=0.2, help="of edges, 0..1")
    parser.add_argument("--timeout", type=float, default=30.0, help="for a scene, seconds")
    args = parser.parse_args(remove_ros_args(sys.argv)[1:])
    node = rclpy.create_node("planner_client")
    try:
        scene = wait_for_scene(node, f"{args.node}/scene", args.timeout)
        target = choose_target(scene)
        plan = ask_for_plan(node, args, scene, target)
        print_plan(scene, target, plan)
    except (RuntimeError, KeyboardInterrupt) as error:
        print(f"planner_client: {error or 'interrupted'}", file=sys.stderr)
        return 1
    finally:
        rclpy.try_shutdown()
    return 0


def wait_for_scene(node, topic: str, timeout_s: float) -> AmodalScene:
    """Return the first scene with an occlusion edge."""
    newest: list[AmodalScene] = []
    subscription = node.create_subscription(AmodalScene, topic, newest.append, 1)
    deadline_s = time.monotonic() + timeout_s
    while not (newest and newest[-1].edges):
        if time.monotonic() > deadline_s:
            heard = f"{len(newest)} scenes, none with an object hidden" if newest else "no scene"
            raise RuntimeError(f"{topic}: {heard} within {timeout_s:g} s")
        rclpy.spin_once(node, timeout_sec=0.1)
    node.destroy_subscription(subscription)
    return newest[-1]


def choose_target(scene: AmodalScene):
    """Return the instance with the highest occlusion rate."""
    hidden = {edge.occludee_id for edge in scene.edges}
    return max(
        (seen for seen in scene.instances if seen.instance_id in hidden),
        key=lambda seen: seen.occlusion_ratio,
    )


def ask_for_plan(node, args, scene: AmodalScene, target):
    """Call ``~/get_removal_plan``; instance ids hold within the scene of one stamp."""
    client = node.create_client(GetRemovalPlan, f"{args.node}/get_removal_plan")
    if not client.wait_for_service(timeout_sec=5.0):
        raise RuntimeError(f"{client.srv_name}: nobody offers this service")
    request = GetRemovalPlan.Request(
        instance_id=target.instance_id,
        stamp=scene.header.stamp,
        min_confidence=args.min_confidence,
    )
    answer = client.call_async(request)
    rclpy.spin_until_future_complete(node, answer, timeout_sec=5.0)
    if not answer.done():
        raise RuntimeError(f"{client.srv_name}: no answer within 5 s")
    plan = answer.result()
    if not plan.success:
        raise RuntimeError(plan.message)
    return plan


def print_plan(scene: AmodalScene, target, plan) -> None:
    """Print the plan, and the edges that it follows from."""
    stamp = scene.header.stamp
    print(f"scene {stamp.sec}.{stamp.nanosec:09d}: {len(scene.instances)} objects")
    # Only visible pixels are measured: the rest of the amodal mask is a guess.
    rows, columns = np.nonzero(decode_mask(target.visible))
    x, y = target.visible.x + columns.mean(), target.visible.y + rows.mean()
    print(
        f"target: object {target.instance_id} (track {target.track_id}), "
        f"{target.occlusion_ratio:.0%} hidden, seen around pixel ({x:.0f}, {y:.0f})"
    )
    for number, (instance_id, track_id) in enumerate(
        zip(plan.remove_first, plan.remove_first_track_ids), 1
    ):
        print(f"{number}. take away object {instance_id} (track {track_id})")
    print(f"{len(plan.remove_first) + 1}. lift object {target.instance_id}")
    for edge in plan.edges:
        print(f"because {describe(edge)}")
    for edge in plan.weak_edges:
        print(f"uncertain, not followed: {describe(edge)}")
    if plan.cyclic:
        members = ", ".join(str(member) for member in plan.cycle_members)
        print(f"no order is right among objects {members}: they hide each other")


def describe(edge) -> str:
    """Return an occlusion edge as text."""
    return (
        f"{edge.occluder_id} hides {edge.hidden_fraction:.0%} of {edge.occludee_id} "
        f"(confidence {edge.confidence:.2f})"
    )


if __name__ == "__main__":
    sys.exit(main())
