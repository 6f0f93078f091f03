# `make repro` and `make test` install what they need into .venv and run it; `make help` lists the rest.
.DEFAULT_GOAL := help
.PHONY: help repro check test test-fast test-gpu test-tutorial test-cases demo-custom ui predict export clean bench-pipeline bench-gpu deps records lock

# The same as execution.engine in params.yaml, which it sets: what made the results stays written there.
$(if $(findstring |$(ENGINE)|,|| |local| |ray|),,$(error ENGINE is $(ENGINE): leave it out for what params.yaml says, or set it to local or ray))
VENV := .venv
BIN := $(VENV)/bin
# Stages say `python`: the environment's own comes first on their PATH.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# As variables of the shell, what users name keeps its spaces and quotes, and none of it is run as a command.
export IMAGE VARIANT TO SETTINGS AGAINST UPGRADE NAME PORT

# The first Python that runs, on the PATH or among pyenv's, whose shims on the PATH may fail.
IS = import sys; sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1])
HOST_PYTHON = $(shell for version in 3.12 3.13 3.11; do \
	for python in "python$$version" python3 "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$version.*/bin/python; do \
	"$$python" -c '$(IS)' $$version 2>/dev/null && echo "$$python" && exit; done; done)
HAS_GPU = $(shell nvidia-smi -L >/dev/null 2>&1 && echo yes)

# A file of tests to a process, of which one more than there are cores: some wait. On a GPU one after the other, which
# share it.
SIDE_BY_SIDE = $(if $(HAS_GPU),,-n $(shell expr $$(nproc) + 1) --maxprocesses=4 --dist loadfile --no-loadscope-reorder)

COMPILE = $(BIN)/uv pip compile -q --generate-hashes --no-header --no-annotate
COMPILE_BASE = $(COMPILE) --universal --python-version 3.11

# uv reads no settings of pip: what pip's variables say of the package index is uv's too.
AS_PIP = env $${PIP_INDEX_URL:+"UV_DEFAULT_INDEX=$$PIP_INDEX_URL"} $${PIP_EXTRA_INDEX_URL:+"UV_INDEX=$$PIP_EXTRA_INDEX_URL"} \
	$${PIP_FIND_LINKS:+"UV_FIND_LINKS=$$PIP_FIND_LINKS"} $${PIP_CERT:+"SSL_CERT_FILE=$$PIP_CERT"}
# antlr4 comes as source, and is built by what build.txt has: uv alone would fetch builders that no hash vouches for.
INSTALL = $(AS_PIP) $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes \
	--build-constraints requirements/build.txt --compile-bytecode -r

OR_SAY = || { echo 'error: the requirements could not be installed: check the connection to the package index (PIP_INDEX_URL) and the disk, and run the same command again' >&2; exit 1; }

help:  ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

repro: $(VENV)/$(if $(filter ray,$(ENGINE)),cluster,runs)  ## run the pipeline and print the result table: make repro [ENGINE=ray|local]
	@$(BIN)/python -m stages run $(if $(ENGINE),--engine $(ENGINE)) dvc repro --ignore-errors

test: $(VENV)/tests  ## lint, type-check and test
	@$(BIN)/ruff check stages tests
	@$(BIN)/ruff format --check stages tests
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE)

# Rooms whose tests import no TensorFlow, and the rules of the house.
FAST := tests/golden tests/core tests/contracts tests/params tests/statistics tests/selection tests/reporting tests/docs tests/test_house.py
test-fast: $(VENV)/tests  ## the tests that need no TensorFlow, in less than a minute
	@$(BIN)/python -m pytest -q $(SIDE_BY_SIDE) -m "not slow and not tutorial and not cases" --deselect tests/core/test_tensorflow.py --ignore tests/core/test_frozen.py --ignore tests/core/test_erfc.py $(FAST)

test-gpu: $(VENV)/tests  ## run the tests that need an NVIDIA GPU; without one they are skipped with the reason
	@$(BIN)/python -m pytest -m gpu

test-tutorial: $(VENV)/tests  ## follow docs/tutorials/your-own-model.md to the letter (5 minutes)
	@$(BIN)/python -m pytest -m tutorial

test-cases: $(VENV)/tests  ## a whole run for each input of ../shared/cases that once gave a wrong figure (half an hour)
	@$(BIN)/python -m pytest -m cases

check: $(VENV)/runs  ## say which variant to ship, and fail if none is: make check [AGAINST=REV] [UPGRADE=OLD:NEW]
	@$(BIN)/python -m stages check $(if $(filter undefined file,$(origin AGAINST)),,--against "$$AGAINST") \
	$(if $(filter undefined file,$(origin UPGRADE)),,--upgrade "$$UPGRADE")

# A model of one's own from nothing: docs/tutorials/your-own-model.md has the same keys.
DEMO := model.name=custom model.path=trained split.source=digits evaluation.source=split calibration.source=split \
	custom.size=[28,28] custom.channels=gray custom.crop_fraction=1.0 train.epochs=12 evaluation.batch_size=50 \
	variants=[savedmodel-fp32,tftrt-fp32,tftrt-fp16,tftrt-int8,tensorrt-fp32,tensorrt-fp16,tensorrt-int8,tensorrt-int8-qat,$\
	tflite-fp32,tflite-fp16,tflite-int8,tflite-int8-qat,onnxruntime-fp32,onnxruntime-int8,onnxruntime-int8-qat]
OVERRIDE = import sys; from dvc.utils.hydra import apply_overrides; apply_overrides("params.yaml", sys.argv[1:])

demo-custom: $(VENV)/runs  ## train on 5,000 digits in the folder demo, and sweep all variants of the model
	@$(BIN)/python -m stages clean --demo demo && git clone -q . demo
	@cd demo && $(CURDIR)/$(BIN)/python -c '$(OVERRIDE)' $(DEMO) && \
	MLFLOW_TRACKING_URI="$${MLFLOW_TRACKING_URI:-sqlite:///$(CURDIR)/mlflow.db}" $(CURDIR)/$(BIN)/python -m stages run dvc repro --ignore-errors
	@echo "All of it is in the folder demo: open demo/reports/report.html, read demo/params.yaml."

ui: $(VENV)/runs  ## open the MLflow UI on http://127.0.0.1:5000
	@store="$$($(BIN)/python -m stages store)" || exit 1; case "$$store" in \
	http*) echo "the runs are on the server: $$store" ;; \
	*) $(BIN)/python -m mlflow ui --backend-store-uri "$$store" --host 127.0.0.1 --port "$${PORT:-5000}" ;; esac

predict: $(VENV)/runs  ## classify images: make predict IMAGE="a.jpg 'my cat.jpg'" [VARIANT=tflite-int8]
	@test -n "$$IMAGE" || { echo 'error: say which image: make predict IMAGE=photo.jpg [VARIANT=tflite-int8]' >&2; exit 2; }
	@printf '%s' "$$IMAGE" | xargs $(BIN)/python -m stages predict --variant "$$VARIANT"

export: $(VENV)/runs  ## write the chosen variant for TensorFlow Serving and Triton: make export [TO=export]
	@$(BIN)/python -m stages export --to "$${TO:-export}"

bench-pipeline: $(VENV)/runs  ## measure the pipeline's own speed (minutes)
	@$(BIN)/python -m tests.bench.bench_pipeline

bench-gpu: $(VENV)/runs  ## measure both zoo models on this GPU (an hour) into docs/results/NAME: make bench-gpu NAME=h100 [SETTINGS='evaluation.source=~/photos']
	@test -n "$$NAME" || { echo 'error: say what to call the results: make bench-gpu NAME=h100' >&2; exit 2; }
	@for model in mobilenet_v2 efficientnet_lite0; do \
	printf '%s' "$$SETTINGS" | xargs $(BIN)/python -m tests.bench.bench_gpu measure $$model "docs/results/.$$NAME.$$model.part" || exit 1; done
	@$(BIN)/python -m tests.bench.bench_gpu render "$$NAME" docs/results/."$$NAME".*.part && rm docs/results/."$$NAME".*.part

clean: $(VENV)/runs  ## remove results and fetched data; the environment, DVC's cache and MLflow's runs stay
	@$(BIN)/python -m stages clean

deps: $(VENV)/runs  ## write the code dependencies of every stage into dvc.yaml, from the imports
	@$(BIN)/python -m stages deps

records: $(VENV)/runs  ## write docs/reference/records.md from the dataclasses of the records
	@$(BIN)/python -m tests.docs.records

lock: $(VENV)/uv  ## compile the pinned requirements anew
	@$(COMPILE_BASE) -o requirements/base.txt pyproject.toml
	@printf 'setuptools\nwheel-stub\n' | $(COMPILE_BASE) -c requirements/base.txt -o requirements/build.txt -
	@echo uv | $(COMPILE_BASE) -c requirements/base.txt -o requirements/uv.txt -
	@for extra in cluster dev; do $(COMPILE_BASE) --extra $$extra -c requirements/base.txt -o requirements/$$extra.txt pyproject.toml || exit 1; done
	@for wanted in stages/runtimes/*/locks/*.in; do lock="$${wanted%.in}.txt"; \
	oldest="$$(sed -n '1s/^# Python //p' "$$wanted" | tr -s ', ' '\n' | sort -V | head -n 1)"; \
	platform="$$(sed -n '2s/^# Platform /--python-platform=/p' "$$wanted")"; \
	$(COMPILE) --config-file requirements/locks.toml --python-version "$$oldest" "$${platform:---universal}" -o "$$lock" "$$wanted" && \
	{ head -n 1 "$$wanted"; cat "$$lock"; } > "$$lock.part" && mv "$$lock.part" "$$lock" || exit 1; done

$(VENV)/python:
	@rm -rf $(VENV); if [ -n "$(HOST_PYTHON)" ] && "$(HOST_PYTHON)" -m venv $(VENV); then :; \
	elif command -v uv >/dev/null; then uv venv --quiet --seed --clear --python 3.12 $(VENV); \
	elif [ -n "$(HOST_PYTHON)" ]; then rm -rf $(VENV); echo 'error: $(HOST_PYTHON) cannot create an environment: install its venv module (Debian: apt install python3-venv)' >&2; exit 1; \
	else echo 'error: Python 3.12, 3.13 or 3.11 is needed, and none was found: install one, or uv, which brings one, and run the same command again' >&2; exit 1; fi
	@touch $@

$(VENV)/uv: requirements/uv.txt | $(VENV)/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $< $(OR_SAY)
	@touch $@

$(VENV)/runs: requirements/build.txt requirements/base.txt $(VENV)/uv
	@echo "installing the pinned requirements into $(VENV) (minutes, once)"
	@$(INSTALL) requirements/base.txt $(OR_SAY)
	@touch $@

$(VENV)/cluster: requirements/cluster.txt $(VENV)/runs
	@$(INSTALL) requirements/cluster.txt $(OR_SAY)
	@touch $@

$(VENV)/tests: requirements/dev.txt $(VENV)/runs
	@$(INSTALL) requirements/dev.txt $(OR_SAY)
	@touch $@
