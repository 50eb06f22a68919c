"""The ROS 2 node, and everything else that needs rclpy."""

from amodal_perception.missing_packages import explain_missing_packages

explain_missing_packages()  # `__main__` imports rclpy at its top
