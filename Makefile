# make setup | demo | training | test | coverage | lint | clean | fuzz | soak | interrupts | kills |
# delivery | faults; each does all of its own set-up.
# PYTHON chooses the interpreter of .venv: x86-64 CPython 3.10 to 3.13.

PYTHON ?= python3
SHELL := /bin/bash
VENV := .venv
STAMPS := $(VENV)/stamps
WITH_ROS := scripts/with_ros
# A sourced ROS installation must not lend its modules to pip.
PIP := env -u PYTHONPATH -u PYTHONHOME $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
PACKAGE := package.xml CMakeLists.txt \
	$(wildcard msg/*.msg srv/*.srv launch/*.py config/*.* examples/* scripts/amodal scripts/amodal_node \
	include/*/*.hpp)

.PHONY: setup demo training test coverage lint clean fuzz soak interrupts kills delivery faults

setup: install/.built $(STAMPS)/command

demo: setup
	$(WITH_ROS) amodal replay amodal_perception/assets/sample_bag --live \
		--truth amodal_perception/assets/sample_truth.json --out out/demo

training: setup $(STAMPS)/training

test: training lint
	scripts/software_gl
	$(WITH_ROS) python -m pytest -n 2

coverage: $(STAMPS)/training $(STAMPS)/command
	scripts/software_gl
	$(WITH_ROS) python -m pytest -n 2 --cov --cov-report=term

lint: $(STAMPS)/training $(STAMPS)/command
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	env -u PYTHONPATH $(VENV)/bin/lint-imports

# Reliability: make fuzz COUNT=100000 | soak SECONDS=600 | interrupts COUNT=100 | kills COUNT=20 |
# delivery COUNT=900 | faults; figures go to out/reliability.
fuzz interrupts kills delivery: setup $(STAMPS)/test
	$(WITH_ROS) python test/run_gate.py $@ $(if $(COUNT),--count $(COUNT))

soak: setup $(STAMPS)/test
	$(WITH_ROS) python test/run_gate.py soak $(if $(SECONDS),--seconds $(SECONDS))

faults: setup $(STAMPS)/test
	$(WITH_ROS) python -m pytest test/ros/test_survival.py test/ros/test_camera_subscription.py test/ros/test_depth.py \
		test/ros/test_outputs.py test/ros/test_camera_faults.py test/ros/test_lifecycle_services.py

clean:
	rm -rf build install log out .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

$(VENV)/bin/python:
	@$(PYTHON) scripts/check_python.py
	$(PYTHON) -m venv $(VENV)
	$(PIP) pip==25.3  # older ones, as Python 3.10 brings them, cannot resolve PyTorch's needs

$(STAMPS)/runtime: requirements/runtime.txt requirements/ros-jazzy.txt scripts/relocate_wheels.py \
		| $(VENV)/bin/python
	@echo "Installing ROS 2 Jazzy's and other wheels into $(VENV)"
	$(PIP) -r requirements/runtime.txt -r requirements/ros-jazzy.txt
	env -u PYTHONPATH $(VENV)/bin/python scripts/relocate_wheels.py
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/command: setup.py pyproject.toml $(STAMPS)/runtime
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(STAMPS)/test: requirements/test.txt $(STAMPS)/runtime
	$(PIP) -r requirements/test.txt
	@touch $@

$(STAMPS)/training: requirements/training.txt $(STAMPS)/test
	@echo "Installing PyTorch and the simulator into $(VENV): some minutes"
	$(PIP) -r requirements/training.txt
	@touch $@

install/.built: $(PACKAGE) $(STAMPS)/runtime
	WITHOUT_INSTALL=1 $(WITH_ROS) colcon --log-level error build --symlink-install --event-handlers console_direct- \
		--cmake-args -G Ninja \
		-DPython3_EXECUTABLE=$(CURDIR)/$(VENV)/bin/python
	@touch $@
