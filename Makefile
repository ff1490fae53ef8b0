# liverseg: `make` lists the targets. PYTHON, DATA, PRESET, SPLIT, STORE, GPUS, SETTINGS, COMPARE_BASELINE may be set.
PYTHON ?= python3
DATA ?=
PRESET ?= demo
SPLIT ?=
STORE ?= build/store
GPUS ?= 2
SETTINGS ?= {}
# 0 leaves out the baseline, the one training without rungs; the tables then have one algorithm.
COMPARE_BASELINE ?= 1
# For `make bench`: a Python with panoptica, which wants other versions of packages than ours.
PANOPTICA ?= $(BIN)/python
# More arguments for pytest.
ARGS ?=
TEST_DATA ?= ../shared/data/liver-mri
# A cluster of its own for the tests, with a registry and an S3 server; see docs/cluster.md.
TEST_CLUSTER ?= ../shared/cluster
TEST_CLUSTER_HOME ?= /var/tmp/test-cluster
REGISTRY ?= localhost:5000
# Another base image than that of the Dockerfiles, for Docker where none can be pulled.
BASE_IMAGE ?=
FAULTS ?= one
# Outside the checkout, since building takes minutes and a clean clone should not repeat it.
TOOLS ?= $(HOME)/.cache/liverseg/tools
VERSITYGW_VERSION := v1.8.0
MINIO_VERSION := v0.0.0-20260212201848-7aac2a2c5b7c
KUBE_SCORE_VERSION := v1.20.0
KUSTOMIZE_VERSION := v5.7.1
KUEUE_VERSION := v0.19.0
# Prometheus 3.16; its Go module counts as 0.316.
PROMETHEUS_VERSION := v0.316.0
PROMETHEUS_OPERATOR_VERSION := v0.85.0
S3_SERVERS := $(TOOLS)/versitygw@$(VERSITYGW_VERSION) $(TOOLS)/minio@$(MINIO_VERSION)
METRICS_SERVERS := $(TOOLS)/prometheus@$(PROMETHEUS_VERSION) $(TOOLS)/prometheus-debian \
  $(TOOLS)/prometheus-operator@$(PROMETHEUS_OPERATOR_VERSION)
GRAFANA_TYPES := monitoring/dashboards/types

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PHANTOM := build/phantom

VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' liverseg/__init__.py)
COMPILE_LOCK = $(BIN)/uv pip compile --quiet pyproject.toml --generate-hashes --no-header \
  --no-annotate --python-version 3.11
CONTROLLER_EXTRAS := --extra imaging --extra report --extra pipeline --extra s3
IMAGE_ARGS = --build-arg VERSION=$(VERSION) --build-arg REVISION=$(shell git rev-parse HEAD 2>/dev/null) \
  $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE))

export TEST_DATA TOOLS

.DEFAULT_GOAL := help
.PHONY: help setup pipeline compile test test-fast crash-sweep mutants images push test-cluster lint format bench lock clean s3-server metrics-servers manifests-check monitoring grafana-schema

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 12

setup: $(STAMP) ## make .venv with exactly the locked packages

# The stamp comes last: an installation that was cut short does not count.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "liverseg needs Python 3.11 or newer; set PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "python3-venv is missing: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-deps --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

pipeline: $(STAMP) ## run the whole study here (DATA= PRESET= SPLIT= STORE= GPUS= COMPARE_BASELINE=); without DATA on synthetic cases
ifeq ($(DATA),)
	$(BIN)/liverseg phantom $(PHANTOM)
	$(BIN)/liverseg pipeline run --data $(PHANTOM) --split $(PHANTOM)/split.json \
	  --preset $(PRESET) --store "$(STORE)" --gpus $(GPUS) --settings '$(SETTINGS)' \
	  $(if $(filter 0,$(COMPARE_BASELINE)),--no-compare-baseline)
else
	$(BIN)/liverseg pipeline run --data "$(DATA)" $(if $(SPLIT),--split "$(SPLIT)") \
	  --preset $(PRESET) --store "$(STORE)" --gpus $(GPUS) --settings '$(SETTINGS)' \
	  $(if $(filter 0,$(COMPARE_BASELINE)),--no-compare-baseline)
endif

# With the digests of the images that `make push` has pushed.
compile: $(STAMP) ## write the pipeline for the Kubeflow UI into build/
	$(BIN)/liverseg pipeline compile --out build \
	  $(foreach name,controller trainer,$(if $(wildcard build/$(name).image),--$(name)-image $(shell cat build/$(name).image)))

# kubectl has a kustomize in it; where there is none, the tests of manifests/ get one. The pages are
# opened in the system's Chromium; where there is none, in playwright's own, or Debian's.
test: $(STAMP) $(if $(shell command -v kubectl),,$(TOOLS)/kustomize@$(KUSTOMIZE_VERSION)) $(if $(shell command -v chromium || command -v chromium-browser || command -v google-chrome),,$(TOOLS)/chromium) ## run all tests (ARGS="-k ..." for some)
	$(BIN)/python -m pytest $(ARGS)

test-fast: $(STAMP) ## run the tests of core, decide, settings and the command line that take no second (ARGS=)
	$(BIN)/python -m pytest --fast $(ARGS)

$(TOOLS)/chromium: | $(STAMP)
	$(BIN)/playwright install chromium || { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes chromium; }
	mkdir -p $(@D)
	touch $@

images: ## build both images with Docker (BASE_IMAGE=)
	docker build $(IMAGE_ARGS) -f images/controller/Dockerfile -t liverseg-controller:$(VERSION) .
	docker build $(IMAGE_ARGS) -f images/trainer/Dockerfile -t liverseg-trainer:$(VERSION) .

# By digest, since a tag may be another image tomorrow.
push: images ## push both images to REGISTRY=; their digests go into build/*.image
	mkdir -p build
	set -e; for name in controller trainer; do \
	  image=$(REGISTRY)/liverseg-$$name; \
	  docker tag liverseg-$$name:$(VERSION) $$image:$(VERSION); \
	  docker push --quiet $$image:$(VERSION); \
	  docker image inspect --format '{{join .RepoDigests "\n"}}' $$image:$(VERSION) \
	    | grep "^$$image@" >build/$$name.image; \
	done

# KUBECONFIG names somebody's cluster: its store and registry are named beside it, and its nodes are
# left alone. Without one the test cluster is brought up, whose nodes may be killed.
test-cluster: $(STAMP) ## run the tests that need a cluster (KUBECONFIG= or TEST_CLUSTER=; FAULTS=all for every fault)
ifeq ($(KUBECONFIG),)
	TEST_CLUSTER_HOME=$(TEST_CLUSTER_HOME) $(TEST_CLUSTER)/up
	DOCKER_BUILDKIT=0 $(MAKE) push BASE_IMAGE=python:3.11-slim-bookworm
	TEST_CLUSTER=$(abspath $(TEST_CLUSTER)) TEST_CLUSTER_HOME=$(TEST_CLUSTER_HOME) \
	  KUBECONFIG=$(TEST_CLUSTER_HOME)/pki/admin.kubeconfig \
	  AWS_ENDPOINT_URL=http://127.0.0.1:9000 STORE_IN_CLUSTER=http://s3.default.svc:9000 \
	  AWS_ACCESS_KEY_ID=test-access-key AWS_SECRET_ACCESS_KEY=test-secret-key \
	  $(BIN)/python -m pytest tests/cluster --cluster --faults=$(FAULTS)
else
	$(MAKE) push
	env -u TEST_CLUSTER $(BIN)/python -m pytest tests/cluster --cluster --faults=$(FAULTS)
endif

crash-sweep: $(STAMP) ## kill the writer before and after every single write of a race (under an hour)
	$(BIN)/python -m tests.crash_sweep

mutants: $(STAMP) ## try wrong programs, each of which some test has to notice (ARGS="words of their names")
	$(BIN)/python -m tests.mutants $(ARGS)

s3-server: $(S3_SERVERS) ## build the S3 servers that the tests of s3:// run against (Go needed)

metrics-servers: $(METRICS_SERVERS) ## build or unpack what reads metrics: Prometheus 3.16 and Debian's (Go needed; minutes)

monitoring: $(STAMP) ## write the dashboards and the PrometheusRule again
	$(BIN)/python -m monitoring

grafana-schema: $(TOOLS)/grafana-schema/package.json ## install Grafana's types, which a test compiles the dashboards against (npm needed)

$(TOOLS)/grafana-schema/package.json: $(GRAFANA_TYPES)/package.json $(GRAFANA_TYPES)/package-lock.json
	@command -v npm >/dev/null || { echo "npm is missing: apt-get install npm"; exit 1; }
	mkdir -p $(@D)
	cp $(GRAFANA_TYPES)/package-lock.json $(@D)
	cp $(GRAFANA_TYPES)/package.json $(@D)/
	npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund || { rm $@; exit 1; }
	touch $@

# A stamp a version: another version is another file, and half a build leaves none.
$(TOOLS)/versitygw@%:
	$(call go_install,github.com/versity/versitygw/cmd/versitygw@$*)

$(TOOLS)/minio@%:
	$(call go_install,github.com/minio/minio@$*)

$(TOOLS)/kube-score@%:
	$(call go_install,github.com/zegl/kube-score/cmd/kube-score@$*)

$(TOOLS)/kustomize@%:
	$(call go_install,sigs.k8s.io/kustomize/kustomize/v5@$*)

# Without the clouds' service discoveries, and without the pages, which are no part of the module.
$(TOOLS)/prometheus@%: TAGS := netgo,remove_all_sd,enable_kubernetes_sd
$(TOOLS)/prometheus@%:
	$(call go_install,$(foreach name,promtool prometheus,github.com/prometheus/prometheus/cmd/$(name)@$*))

# Only the definitions of its kinds, against which a test checks ours.
$(TOOLS)/prometheus-operator@%:
	@command -v go >/dev/null || { echo "Go is missing: install Go 1.24 or newer"; exit 1; }
	mkdir -p "$(TOOLS)/prometheus-operator"
	folder=$$(go mod download -json github.com/prometheus-operator/prometheus-operator@$* | sed -n 's/.*"Dir": "\(.*\)".*/\1/p') && \
	  install -m 644 "$$folder"/example/prometheus-operator-crd/*.yaml "$(TOOLS)/prometheus-operator"
	touch "$@"

# The version that distributions carry: unpacked only, since installed it would run as a service.
$(TOOLS)/prometheus-debian:
	mkdir -p "$@.part"
	cd "$@.part" && { apt-get download prometheus || { apt-get update && apt-get download prometheus; }; }
	dpkg-deb --extract "$@.part"/prometheus_*.deb "$@.part"
	rm "$@.part"/*.deb
	mv "$@.part" "$@"

# Go's own instructions put it into /usr/local/go, which is not on every PATH.
s3-server metrics-servers manifests-check test: export PATH := $(PATH):/usr/local/go/bin

# One package at a time: the linker alone takes a gigabyte.
define go_install
	@command -v go >/dev/null || { echo "Go is missing: install Go 1.24 or newer"; exit 1; }
	mkdir -p "$(TOOLS)"
	GOBIN="$(TOOLS)" GOFLAGS="-p=1 $(if $(TAGS),-tags=$(TAGS))" nice go install $(1)
	touch "$@"
endef

# Kueue's own definitions go only into a cluster that is ours.
manifests-check: export KUBE_SCORE = $(TOOLS)/kube-score
manifests-check: $(TOOLS)/kube-score@$(KUBE_SCORE_VERSION) ## lint every overlay and let an API server validate it (KUBECONFIG= or TEST_CLUSTER=)
ifeq ($(KUBECONFIG),)
	TEST_CLUSTER_HOME=$(TEST_CLUSTER_HOME) $(TEST_CLUSTER)/up
	kueue=$$(go mod download -json sigs.k8s.io/kueue@$(KUEUE_VERSION) | sed -n 's/.*"Dir": "\(.*\)".*/\1/p') && \
	  KUBECONFIG=$(TEST_CLUSTER_HOME)/pki/admin.kubeconfig KUEUE_CRDS=$$kueue/config/components/crd/bases manifests/check
else
	manifests/check
endif

lint: $(STAMP) ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## measure prediction, training, controller, metrics and evaluation against the bounds in bench/ (PANOPTICA=)
	$(BIN)/python bench/prediction.py
	$(BIN)/python bench/training.py
	$(BIN)/python bench/controller.py
	$(BIN)/python bench/telemetry.py
	$(BIN)/python bench/evaluation.py --panoptica "$(PANOPTICA)"

lock: $(STAMP) ## re-resolve package versions and write them with their hashes
	$(COMPILE_LOCK) --all-extras --upgrade -o requirements.lock
	$(COMPILE_LOCK) $(CONTROLLER_EXTRAS) -c requirements.lock -o images/controller/requirements.lock
	$(COMPILE_LOCK) $(CONTROLLER_EXTRAS) --extra network -c requirements.lock \
	  -o images/trainer/requirements.lock

clean: ## remove what was built; .venv stays
	rm -rf build
