"""Scenes and images to ROS messages and back; no ROS is imported."""
