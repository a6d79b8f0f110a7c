# Everything that a person or CI does with this tree. `make` lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
# The version is stamped above, so Go need not ask git, which may refuse a tree of another owner.
GOBUILD := CGO_ENABLED=0 go build -mod=readonly -buildvcs=false -trimpath -ldflags '$(LDFLAGS)'

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'

.PHONY: build
build: ## Build bin/certloom and bin/certloom-agent
	@mkdir -p bin
	$(GOBUILD) -o bin/ ./cmd/...

.PHONY: run
run: ## Build and start the whole product on this machine; ARGS="--listen :9443" is handed to certloom dev
	@mkdir -p bin
	$(GOBUILD) -o bin/ ./cmd/certloom # not the agent, which takes Kubernetes' client to build
	@exec bin/certloom dev $(ARGS)

.PHONY: test
test: ## Install what the tests need, run them all with the race detector, fuzz each parser briefly
	scripts/test.sh

.PHONY: e2e
e2e: ## Run the real binary against cert-manager, lego and acmez
	scripts/e2e.sh

.PHONY: screenshots
screenshots: ## Take pictures of every page of the console into bin/screenshots
	scripts/screenshots.sh

.PHONY: bench
bench: ## Measure throughput, latency, memory and start time, with step-ca and istiod beside us
	scripts/bench.sh

.PHONY: check
check: ## Format, vet, lint, tidy, generated files: what CI asks of a change before its tests
	scripts/check.sh

.PHONY: fuzz
fuzz: ## Fuzz each parser for FUZZTIME (default 60s)
	FUZZTIME=$${FUZZTIME:-60s} scripts/fuzz.sh

.PHONY: generate
generate: ## Write the generated files (zz_gen_*) again
	go generate ./...

.PHONY: fmt
fmt: ## Format all Go files
	scripts/tool.sh golangci-lint fmt

.PHONY: clean
clean: ## Remove what was built here
	rm -rf bin coverage.out
