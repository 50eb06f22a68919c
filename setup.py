"""The one step of the build that pyproject.toml, which says the rest, cannot name.

With ROS, build with colcon instead (package.xml, CMakeLists.txt).
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


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


setup(cmdclass={"build_py": BuildWithDefinitions})
