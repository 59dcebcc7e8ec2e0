# The same few commands for people and for CI; each does the set-up that it needs.
.PHONY: setup serve test test-fast test-pythons check bench bench-server bench-dtype bench-worker \
	bench-mixed bench-peers bench-niah bench-gpu bench-plan check-vllm check-gpu docs lock clean

setup: ## make .venv
	scripts/setup

serve: ## serve the embedded model; ARGS="MODEL --factors FILE --port 8001 ..."
	scripts/serve $(ARGS)

test: ## every test except the slow ones; ARGS="tests/server -x ..."
	scripts/test $(ARGS)

test-fast: ## the tests that start no engine and do not take long
	scripts/test -n 2 --dist loadfile -m "not slow and not engine and not long"

test-pythons: ## what needs no torch, on every other supported Python that is here
	scripts/test-pythons

check: ## format, lint, types, imports, Dockerfile
	scripts/check

bench: ## the rotary layer and the engine against vLLM's own, as ratios
	scripts/bench $(ARGS)

bench-server: ## our pieces around vLLM's application against that alone, as ratios
	scripts/setup && .venv/bin/python -m bench.server $(ARGS)

bench-dtype: ## float32 against bfloat16 on this CPU, as ratios
	scripts/setup && .venv/bin/python -m bench.dtype $(ARGS)

bench-worker: ## a CPU engine without a worker process against one with it, as ratios
	scripts/setup && .venv/bin/python -m bench.worker $(ARGS)

bench-mixed: ## chats while long documents are prefilled against stock vLLM; ARGS="-o DIRECTORY"
	scripts/setup && .venv/bin/python -m bench.mixed $(ARGS)

bench-peers: ## our load-testing figures beside those of vLLM's benchmark and guidellm
	scripts/bench-peers $(ARGS)

bench-niah: ## our scores of RULER's needles beside lm-eval's, on its samples
	scripts/bench-niah $(ARGS)

bench-gpu: ## the rotation on a GPU against vLLM's own, as ratios; ARGS="-o FILE"
	scripts/on-gpu bench.gpu.rotation $(ARGS)

bench-plan: ## what `longrope plan` predicts beside what vLLM does; ARGS="MODEL --gpu H100 ..."
	scripts/on-gpu bench.planned $(ARGS)

check-gpu: ## the kernel's and the plug-in's tests on a GPU
	scripts/check-gpu $(ARGS)

check-vllm: ## what needs no GPU on other releases of vLLM; ARGS="0.24.0 0.33.0"
	scripts/check-vllm $(ARGS)

docs: ## the site of docs/, in build/site
	scripts/docs

lock: ## write requirements/*.txt again from pyproject.toml
	scripts/lock

clean: ## remove virtual environments and every build output
	rm -rf .venv .venv-* build dist *.egg-info .hypothesis .pytest_cache \
		.mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
