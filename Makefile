# Each target is one script or one command; what they do stands there.

.DEFAULT_GOAL := help
.PHONY: help crash demo test fuzz image lint generate deny clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Only what is given here counts. The KUBECONFIG in your environment may be production's.
given = $(if $(filter command,$(firstword $(origin $1))),$2 '$($1)')

# Optimised: a million lives would take a day otherwise.
simulation = cargo test --quiet --profile simulation --features simulation --test simulation --

demo: ## Show a client's whole life; KUBECONFIG=FILE: in that cluster; REGISTRY=calcom|telnyx|teable|meteroid: at its fake
	@hack/demo $(call given,KUBECONFIG,--kubeconfig) $(call given,REGISTRY,--registry)

PAIRS = all
crash: ## Prove it by exhaustion: every fault, every pair, every rule switched off; PAIRS=300: so many of each story; ARGS=rfc7592/create: only there
	$(simulation) --mutations
	$(simulation) --pairs $(PAIRS) --walks 200 $(ARGS)

test: ## Check all that a change has to pass; ARGS='--test promises NAME': only those tests
	@hack/test $(ARGS)

fuzz: ## Fuzz every decoder under libFuzzer; TIME=1h: for each target so long; ARGS=NAME: only those
	@hack/fuzz $(call given,TIME,--time) $(ARGS)

image: ## Build the image for amd64 and arm64, check what is in it, and show a client's whole life with it; ARGS=amd64: only that one
	@hack/image/build $(ARGS)
	@hack/demo --operator hack/image/run

SCRIPTS := hack/lib.sh hack/demo hack/test hack/fuzz hack/manifests hack/prerequisites .ci/run $(wildcard hack/demo.d/*) \
  $(filter-out %/Containerfile,$(wildcard hack/image/*)) $(addprefix hack/controlplane/,lib.sh build up down)

lint: ## Check format and lints only
	cargo fmt --check
	cargo clippy --all-targets --all-features -- -D warnings
	@if command -v shellcheck >/dev/null; then shellcheck $(SCRIPTS); \
	else echo 'shellcheck is not installed, so the scripts stay unchecked'; fi

generate: ## Write crds/ and docs/api.md anew from src/api/, and config/ from the chart
	cargo run --quiet --bin crds -- crds docs/api.md
	cargo run --quiet --bin crds -- charts/oauth-operator/files/crds
	@hack/controlplane/build helm4
	@hack/manifests config

deny: ## Check licences, bans and advisories of all dependencies
	cargo install --quiet --locked --root target/tools cargo-deny
	PATH="$(CURDIR)/target/tools/bin:$$PATH" cargo deny check

clean: ## Remove what cargo built; the tools that take long to build stay in target/tools
	rm -rf target/debug target/release target/doc target/tmp
