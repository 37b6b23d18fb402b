# make play   the world that comes with wakedream, in the browser: dream Crafter under your keys
# make demo   real play to a page of reconstructions, one of dreams, one of an agent, about 10 minutes on 2 CPU cores
# make agent  all four stages in a small world: an agent before and after practice in its dream, 14 minutes on 2 cores, 30 on slow ones
# make test   the laws, under 10 minutes on 2 CPU cores, offline
# make check  lint and types
# make e2e    the slow tests: the whole pipeline on real data
# make bench  what measures speed, as tables
#
# PYTHON       the Python to use, 3.11 or newer
# TORCH_INDEX  address of a package index with another build of torch (CPU only, or a certain CUDA)

PYTHON ?= python3
TORCH_INDEX ?=
DEMO ?= runs/demo
DEMO_FRAMES ?= 24000
WORLD ?= crafter-small --env crafter
AGENT ?= runs/agent

VENV := .venv
BIN := $(VENV)/bin
PIP_FLAGS := --quiet --disable-pip-version-check -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: play demo agent test check e2e bench weights clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'wakedream needs Python 3.11 or newer, this is ' + sys.version)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_FLAGS) -e '.[dev]'
	touch $@

weights: $(VENV)/.installed
	$(BIN)/wakedream weights lpips --package

play: $(VENV)/.installed
	$(BIN)/wakedream play $(WORLD)

# the world's own tokenizer reads 5,000 frames in a minute: more would be long to wait for on 2 cores
demo: $(VENV)/.installed weights
	$(BIN)/wakedream record crafter --out $(DEMO)/data --frames $(DEMO_FRAMES) --processes 2 --max-episode-frames 150
	$(BIN)/wakedream train tokenizer demo --data $(DEMO)/data --out $(DEMO)/tokenizer --train.minutes 2.5
	$(BIN)/wakedream evaluate $(DEMO)/tokenizer --data $(DEMO)/data --out $(DEMO)/report
	$(BIN)/wakedream record crafter --out $(DEMO)/more --frames 5000 --processes 2 --max-episode-frames 150 --seed 1
	$(BIN)/wakedream train dynamics crafter-small --data $(DEMO)/more --tokenizer crafter-small --latents $(DEMO)/latents \
	  --init crafter-small --out $(DEMO)/dynamics --train.minutes 1 --train.compile off --train.warmup-steps 20 --train.ema-decay 0.9 \
	  --train.evaluation-clips 8 --optim.lr 0.0005 --optim.adamw-lr 3e-5 --loader.batch-size 4 --objective.bootstrap-from 0
	$(BIN)/wakedream evaluate $(DEMO)/dynamics --data $(DEMO)/more --out $(DEMO)/dreams --compare 4 --chunks 8 --drift 0 --clips 12
	$(BIN)/wakedream evaluate crafter-small --data $(DEMO)/more --out $(DEMO)/agent --primary events --episodes 16 --num-envs 16 \
	  --length 250 --no-greedy --curve 0
	@echo "Open in a browser: $(DEMO)/report/index.html (reconstructions), $(DEMO)/dreams/index.html (dreams), $(DEMO)/agent/index.html (the agent's play)."

agent: $(VENV)/.installed weights
	$(BIN)/wakedream record doorkey5 --out $(AGENT)/data --frames 24000 --size 40 --policy scripted:0.6,random:0.4 --processes 2
	$(BIN)/wakedream train tokenizer auto --data $(AGENT)/data --out $(AGENT)/tokenizer --model.num-latents 8 --model.patch-size 8 \
	  --train.steps 500 --train.minutes None
	$(BIN)/wakedream train dynamics auto --data $(AGENT)/data --tokenizer $(AGENT)/tokenizer --out $(AGENT)/dynamics \
	  --model.told --loader.batch-size 32 --train.compile on --objective.bootstrap-from 600 --train.steps 1400 --train.minutes None
	$(BIN)/wakedream train agent demo --data $(AGENT)/data --world $(AGENT)/dynamics --out $(AGENT)/agent --train.steps 500 --train.minutes None
	$(BIN)/wakedream train imagination demo --data $(AGENT)/data --agent $(AGENT)/agent --out $(AGENT)/imagination \
	  --train.steps 90 --train.minutes None
	$(BIN)/wakedream evaluate $(AGENT)/imagination --data $(AGENT)/data --out $(AGENT)/report --policies random scripted --processes 2
	@echo "Open $(AGENT)/report/index.html in a browser: the agent before and after practice, in its dream and in the world."

test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --jaxtyping-packages=wakedream,typecheck.checked
	$(BIN)/python -m pytest -m compile

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/mypy

e2e: $(VENV)/.installed weights
	$(BIN)/python -m pytest -m slow

bench: $(VENV)/.installed
	$(BIN)/wakedream record crafter --out runs/bench/data --frames 12000 --processes 2
	$(BIN)/python benchmarks/data.py runs/bench/data
	$(BIN)/python benchmarks/crafter_player.py
	$(BIN)/wakedream bench --baseline --seconds 2 --repeats 5 --data runs/bench/data --out runs/bench/bench.json

clean:
	rm -rf $(VENV) build *.egg-info
