# The node on an NVIDIA GPU of a PC (x86-64). From the repository's root:
#   docker build -f docker/cuda.Dockerfile -t amodal_perception:cuda .
#   docker run --gpus all --network host amodal_perception:cuda
# BASE: as in cpu.Dockerfile. CUDA's libraries come with TensorRT's wheels, the driver with
# --gpus all. EXTRA: tensorrt-cu12, tensorrt-cu13 or tensorrt-rtx, as the driver's CUDA.
ARG BASE=ros:jazzy-ros-base
FROM ${BASE} AS dependencies
ARG EXTRA=tensorrt-cu12
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_NO_CACHE_DIR=1
COPY . /tmp/src/amodal_perception
RUN apt-get update \
    && rosdep update --rosdistro "$ROS_DISTRO" \
    && rosdep install --from-paths /tmp/src --ignore-src -y \
    && rm -rf /var/lib/apt/lists/*
# The extra alone: the package itself is built by colcon below.
RUN python3 /tmp/src/amodal_perception/docker/extra_packages.py \
        /tmp/src/amodal_perception/pyproject.toml "$EXTRA" > /tmp/extra.txt \
    && python3 -m pip install --requirement /tmp/extra.txt \
    && rm -rf /tmp/src /tmp/extra.txt

FROM dependencies AS build
COPY . /ws/src/amodal_perception
WORKDIR /ws
RUN . "/opt/ros/$ROS_DISTRO/setup.bash" \
    && colcon build --merge-install --packages-select amodal_perception

FROM dependencies
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN useradd --create-home --user-group --groups video --uid 10001 amodal \
    && install --directory --owner amodal --group amodal --mode 700 /home/amodal/.cache
COPY --from=build /ws/install /ws/install
COPY docker/entrypoint.sh /entrypoint.sh
USER 10001
WORKDIR /home/amodal
ENTRYPOINT ["/entrypoint.sh"]
CMD ["ros2", "launch", "amodal_perception", "amodal.launch.py"]
