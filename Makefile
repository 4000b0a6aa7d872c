# Two commands need nothing but git, make and Python 3.11 or 3.12: `make demo` and `make test`.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
# The older Keras, for the tests of both, and the backbones of the efficientnet package. Without their
# dependencies, which bring a second TensorFlow and scikit-image.
WITHOUT_DEPENDENCIES := tf_keras==2.20.1 efficientnet==1.1.1 Keras-Applications==1.0.8
TIDY := pipeline beam_jobs trainer benchmarks tests docker notebooks setup.py
DEMO := data/demo

.PHONY: install demo test test-slow test-cloud lint format bench lock clean

install: $(INSTALLED)

# Debian's Python comes without venv; apt installs it where it may, without asking.
$(INSTALLED): setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || \
		{ echo "foldstream needs Python 3.11 or 3.12; name one: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		if [ "$$(id -u)" = 0 ]; then as_root=; else as_root=sudo; fi; \
		export DEBIAN_FRONTEND=noninteractive; \
		$$as_root apt-get update -q && $$as_root apt-get install -qy --no-install-recommends \
			$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --use-pep517 -c constraints.txt -e '.[cpu,dev,preflight]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(WITHOUT_DEPENDENCIES)
	touch $(INSTALLED)

# Phantoms → records → verified → an image-only and a fused run of two folds, and baselines → the best
# ensemble of theirs → a report.
demo: install
	rm -rf $(DEMO)
	$(BIN)/python -m pipeline.phantom --patients 120 --seed 7 --output $(DEMO)/phantom
	$(BIN)/python -m beam_jobs.make_records --spec datasets/phantom.toml --csv $(DEMO)/phantom/train.csv \
		--images $(DEMO)/phantom/jpeg --sizes 96 --output $(DEMO)/records
	$(BIN)/python -m beam_jobs.verify_records $(DEMO)/records/96
	$(BIN)/python -m trainer.task --records $(DEMO)/records/96 --run $(DEMO)/runs/image \
		--config configs/demo.toml --folds 0,1
	$(BIN)/python -m trainer.task --records $(DEMO)/records/96 --run $(DEMO)/runs/fused \
		--config configs/demo.toml --folds 0,1 --set model.fusion=concat
	$(BIN)/python -m trainer.baselines --records $(DEMO)/records/96 --run $(DEMO)/runs/baselines \
		--folds 0,1 --models logistic --class_weights none --features metadata,histogram+metadata
	$(BIN)/python -m trainer.ensemble $(DEMO)/runs/image $(DEMO)/runs/fused \
		$(DEMO)/runs/baselines/logistic-metadata $(DEMO)/runs/baselines/logistic-histogram+metadata \
		--method optimal --output $(DEMO)/ensemble.parquet
	$(BIN)/python -m trainer.report $(DEMO)/ensemble.parquet $(DEMO)/runs/fused $(DEMO)/runs/image \
		$(DEMO)/runs/baselines/logistic-histogram+metadata --output $(DEMO)/report.html \
		--records $(DEMO)/records/96 --subgroups sex,age,site --point dermatologists=74.1,60 \
		--grad_cam --grad_cam_layer block3_relu --model_card $(DEMO)/model_card.md
	$(BIN)/python tests/e2e/check_demo.py $(DEMO)

test: install
	$(BIN)/python -m pytest -n 2 -m "not slow and not cloud and not tpu"

test-slow: install
	$(BIN)/python -m pytest -m slow

# Against a stand-in for Google Cloud Storage on this machine: docs/storage.md.
test-cloud: install
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "cloud and not slow"

lint: install
	$(BIN)/ruff check $(TIDY)
	$(BIN)/ruff format --check $(TIDY)
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix $(TIDY)
	$(BIN)/ruff format $(TIDY)

# The figures of docs/log.md; FOLDSTREAM_DATA names the folder of real images.
bench: install
	$(BIN)/python benchmarks/folds.py --data $${FOLDSTREAM_DATA:-../shared/data}
	$(BIN)/python -m benchmarks.duplicates --data $${FOLDSTREAM_DATA:-../shared/data}
	$(BIN)/python benchmarks/render_quality.py --data $${FOLDSTREAM_DATA:-../shared/data}
	$(BIN)/python benchmarks/make_records.py --data $${FOLDSTREAM_DATA:-../shared/data}

lock: install
	$(BIN)/pip install --quiet uv
	echo '# Every install uses these versions. Made anew by `make lock`.' > constraints.txt
	$(BIN)/uv pip compile setup.py --extra cpu --extra dev --extra preflight --universal --python-version 3.11 \
		--no-annotate --no-header --upgrade >> constraints.txt

clean:
	rm -rf .venv data build *.egg-info
