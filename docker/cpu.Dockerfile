# The node on the CPU. From the repository's root:
#   docker build -f docker/cpu.Dockerfile -t amodal_perception:cpu .
# BASE: any image with ROS 2 Jazzy or newer, colcon and rosdep.
ARG BASE=ros:jazzy-ros-base
FROM ${BASE} AS dependencies
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_NO_CACHE_DIR=1
COPY package.xml /tmp/src/amodal_perception/package.xml
# rosdep names the packages; their versions are those of the ROS release.
RUN apt-get update \
    && rosdep update --rosdistro "$ROS_DISTRO" \
    && rosdep install --from-paths /tmp/src --ignore-src -y \
    && rm -rf /var/lib/apt/lists/* /tmp/src

FROM dependencies AS build
COPY . /ws/src/amodal_perception
WORKDIR /ws
RUN . "/opt/ros/$ROS_DISTRO/setup.bash" \
    && colcon build --merge-install --packages-select amodal_perception

FROM dependencies
RUN useradd --create-home --user-group --groups video --uid 10001 amodal \
    && install --directory --owner amodal --group amodal --mode 700 /home/amodal/.cache
COPY --from=build /ws/install /ws/install
COPY docker/entrypoint.sh /entrypoint.sh
USER 10001
WORKDIR /home/amodal
ENTRYPOINT ["/entrypoint.sh"]
CMD ["ros2", "launch", "amodal_perception", "amodal.launch.py"]
