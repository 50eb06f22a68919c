"""The ROS side: messages, images, the node. Only `node` and `demo` need rclpy."""
