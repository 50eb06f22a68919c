"""The node as a process: ``python -m amodal_perception.ros``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import fields

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.utilities import remove_ros_args

from amodal_perception.errors import AmodalError, ConfigError, EngineError, ModelFileError
from amodal_perception.missing_packages import describe_missing_package
from amodal_perception.ros import exit_codes
from amodal_perception.ros.lifecycle import spin
from amodal_perception.ros.node import AmodalNode
from amodal_perception.ros.parameters import NodeParameters


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node until it is interrupted; return 0, or why it ends: see `exit_codes`."""
    argv = sys.argv if argv is None else argv
    is_initialised = False
    try:
        rclpy.init(args=list(argv))
        is_initialised = True
        _parse_arguments(remove_ros_args(list(argv))[1:])
        _run()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except ModuleNotFoundError as error:
        print(f"amodal_node: {describe_missing_package(error) or error}", file=sys.stderr)
        return exit_codes.PERMANENT
    except (AmodalError, RuntimeError) as error:  # rcl reports bad arguments as RuntimeError
        if is_initialised and isinstance(error, RuntimeError) and not rclpy.ok():
            return 0  # interrupted while something was being created
        print(f"amodal_node: {' '.join(str(error).split())}", file=sys.stderr)
        is_permanent = isinstance(error, ConfigError | ModelFileError)
        return exit_codes.PERMANENT if is_permanent else exit_codes.FAILED
    finally:
        rclpy.try_shutdown()
    return 0


def _run() -> None:
    """Run the node.

    Raises:
        AmodalError: it could not start, or cannot go on.
    """
    node = AmodalNode()
    executor = SingleThreadedExecutor()
    has_ended = False
    try:
        executor.add_node(node)
        if node.parameters.autostart:
            node.autostart()
        spin(node, executor, lambda: node.exit_reason is None)
        if node.exit_reason is not None:
            node.publish_last_diagnostics()
    finally:
        has_ended = node.stop()
        executor.shutdown()
        node.destroy_node()
        if not has_ended:
            # Its thread is in native code, which must not be torn down beneath it.
            print("amodal_node: left the engine at its work", file=sys.stderr)
            if node.exit_reason is not None:
                print(f"amodal_node: {node.exit_reason}", file=sys.stderr)
            sys.stderr.flush()
            os._exit(0 if node.exit_reason is None else exit_codes.FAILED)
    if node.exit_reason is not None:
        raise EngineError(node.exit_reason)


def _parse_arguments(arguments: Sequence[str]) -> None:
    names = "\n".join(
        f"  {item.name} (default {item.default!r}): {item.metadata['description']}"
        for item in fields(NodeParameters)
    )
    parser = argparse.ArgumentParser(
        prog="amodal_node",
        description="Camera images in, amodal scenes out: the ROS 2 node.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"parameters (--ros-args -p NAME:=VALUE):\n{names}",
    )
    parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
