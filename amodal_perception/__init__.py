"""Amodal perception: visible and amodal masks, occlusion order and removal order of objects.

ROS 2 installs the generated messages under this same package name, so the package may live in two
folders at once; ``extend_path`` joins them, whichever is imported first.
"""

__path__ = __import__("pkgutil").extend_path(__path__, __name__)
