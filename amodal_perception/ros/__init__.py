"""The ROS 2 node, and everything else that needs rclpy."""
