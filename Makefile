# Everything below works from a bare clone: `.venv` is made when it is missing or out of date.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup demo test lint bench bench-swarm bench-engine bench-fairness bench-front bench-models bench-routing failure-matrix sim fuzz fuzz-api clean

setup: $(STAMP)

# constraints.txt names every package with its version, so `--no-deps` is safe.
# llama-cpp-python is compiled from source (about five minutes on two cores), with your own CMAKE_ARGS and with
# GGML_RPC, which puts llama.cpp's RPC backend into that build. pip caches the wheel whatever it was built with:
# `pip cache remove llama_cpp_python` comes before a build with other arguments. libp2p needs trio-typing, whose
# stubs describe an older trio and would hide trio's own types from mypy: they go.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	@echo "installing; the first time llama.cpp is compiled, which takes about five minutes ..."
	CMAKE_ARGS="$$CMAKE_ARGS -DGGML_RPC=on" $(BIN)/python -m pip install --quiet --no-deps -r constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/python -c "import shutil, sysconfig; shutil.rmtree(sysconfig.get_path('purelib') + '/trio-stubs', ignore_errors=True)"
	touch $(STAMP)

demo: setup
	$(BIN)/localai-node demo

# Two at a time, those of one file in one process: they share nodes and models.
test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python tests/bench/run.py

bench-swarm: setup
	$(BIN)/python tests/bench/swarm_liveness.py

# On a virtual clock: the same figures everywhere. Prints a table and writes docs/fairness.md.
bench-fairness: setup
	$(BIN)/python tests/bench/fairness.py

# A front and three peers on loopback. Prints a table and writes docs/front.md. Fails where an aim was missed.
bench-front: setup
	$(BIN)/python tests/bench/front.py

# Real nodes that get a model from each other, ten minutes. Prints a table and writes docs/models.md. Fails where an
# aim was missed.
bench-models: setup
	$(BIN)/python tests/bench/models.py

# Against llama.cpp's own server, which is built from the same source first, once: ten minutes. Prints a table and
# writes docs/engine.md. Fails where an aim was missed.
bench-engine: setup
	$(BIN)/python tests/bench/engine.py

# Half an hour. Strikes serving nodes down at every place of an answer, and writes docs/failure-matrix.md. Fails where
# an aim was missed.
failure-matrix: setup
	$(BIN)/python tests/failures/run.py

# Simulated, so it is the same on every machine: some minutes. Writes docs/routing.md and its plots, and fails where
# an aim was missed. SEEDS=20 takes more of them.
bench-routing: setup
	$(BIN)/python tests/bench/routing.py

# An hour or so on two cores. Prints a table and writes docs/simulation.md, which `HOURS=50 make sim`, being
# shorter, leaves alone. Fails where an aim was missed.
sim: setup
	$(BIN)/python tests/sim/run.py
	PARTING=50 $(BIN)/python -m pytest tests/sim/test_fifty_whole_nodes.py

# A hundred thousand near misses against each decoder. SEED= replays a run, COUNT= makes it shorter.
fuzz: setup
	$(BIN)/python tests/fuzz/run.py

# Three thousand requests to each endpoint, made from our own OpenAPI. SEED= replays a run, COUNT= makes it shorter.
fuzz-api: setup
	$(BIN)/python tests/fuzz/run_api.py

clean:
	rm -rf .venv .mypy_cache .ruff_cache .hypothesis
