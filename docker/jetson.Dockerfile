# The node on a Jetson with JetPack 6 (Ubuntu 22.04, CUDA 12.6, TensorRT 10.3, Python 3.10). On it:
#   docker build -f docker/jetson.Dockerfile -t amodal_perception:jetson .
#   docker run --runtime nvidia --network host amodal_perception:jetson
# BASE: ROS 2 for the Ubuntu of that JetPack. JETPACK: an image of that JetPack with TensorRT; its
# libraries and Python module are taken from it.
ARG BASE=ros:humble-ros-base
ARG JETPACK=nvcr.io/nvidia/l4t-jetpack:r36.4.0
FROM ${JETPACK} AS jetpack

FROM ${BASE} AS dependencies
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV PIP_NO_CACHE_DIR=1
COPY package.xml /tmp/src/amodal_perception/package.xml
RUN apt-get update \
    && rosdep update --rosdistro "$ROS_DISTRO" \
    && rosdep install --from-paths /tmp/src --ignore-src -y \
    && python3 -m pip install "cuda-bindings>=12.6,<13" \
    && rm -rf /var/lib/apt/lists/* /tmp/src
COPY --from=jetpack /usr/lib/aarch64-linux-gnu/libnvinfer*.so* \
    /usr/lib/aarch64-linux-gnu/libnvonnxparser*.so* /usr/lib/aarch64-linux-gnu/
COPY --from=jetpack /usr/lib/python3.10/dist-packages/tensorrt \
    /usr/lib/python3.10/dist-packages/tensorrt

FROM dependencies AS build
COPY . /ws/src/amodal_perception
WORKDIR /ws
RUN . "/opt/ros/$ROS_DISTRO/setup.bash" \
    && colcon build --merge-install --packages-select amodal_perception

FROM dependencies
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=all
RUN useradd --create-home --user-group --groups video --uid 10001 amodal \
    && install --directory --owner amodal --group amodal --mode 700 /home/amodal/.cache
COPY --from=build /ws/install /ws/install
COPY docker/entrypoint.sh /entrypoint.sh
USER 10001
WORKDIR /home/amodal
ENTRYPOINT ["/entrypoint.sh"]
CMD ["ros2", "launch", "amodal_perception", "amodal.launch.py"]
