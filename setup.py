"""Install without ROS: the `amodal` command, the evaluation, and the default model.

With ROS, build with colcon instead (package.xml, CMakeLists.txt).
"""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

EXTRAS = {
    "onnx": ["onnxruntime>=1.17"],
    "bags": ["rosbags>=0.10", "zstandard"],
    "evaluation": ["pycocotools", "scipy"],
    "ray": ["ray"],
}


class BuildWithDefinitions(build_py):
    """Take the message definitions along: bags are written without ROS."""

    def run(self):
        """Build, then copy the definitions."""
        super().run()
        if self.editable_mode:
            return
        folder = Path(self.build_lib, "amodal_perception", "assets", "definitions")
        folder.mkdir(parents=True, exist_ok=True)
        for definition in sorted(Path("msg").glob("*.msg")):
            shutil.copy(definition, folder)


setup(
    name="amodal_perception",
    version="0.1.0",
    description="Visible and amodal masks, occlusion order and removal order of objects",
    author="The amodal_perception authors",
    author_email="amodal_perception@example.org",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["amodal_perception", "amodal_perception.*"]),
    package_data={"amodal_perception": ["assets/**"]},
    cmdclass={"build_py": BuildWithDefinitions},
    install_requires=["numpy>=1.26", "opencv-python-headless", "PyYAML", "tqdm"],
    extras_require={**EXTRAS, "all": [name for names in EXTRAS.values() for name in names]},
    entry_points={"console_scripts": ["amodal = amodal_perception.cli:main"]},
)
