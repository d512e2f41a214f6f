# Weir. Go 1.26 and make are enough for build, run and test.

.SHELLFLAGS := -euc
MAKEFLAGS   += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
CONFIG   ?= gateway.toml
FUZZTIME ?= 30s
SOAK     ?= 10m

# The race detector is a C library: without a C compiler the tests run without it.
CC_FOUND := $(shell command -v "$$(go env CC)" 2>/dev/null)
RACE     := $(if $(CC_FOUND),-race)

# Linux on x86-64 also runs what is built where an int has 32 bits, in e2e.
X86 := $(filter Linux-x86_64,$(shell uname -s)-$(shell uname -m))

# What runs whole guests in one goroutine gains nothing from the detector and
# takes minutes under it.
SINGLE := /(hostabi/conformance|examples/.*)$$

# Tools are pinned in a module of their own, apart from what Weir is made of.
TOOL := go tool -modfile=tools/go.mod

# Every directory plugins/NAME with a Go main package becomes plugins/NAME.wasm.
GUESTS  := $(sort $(patsubst %/,%,$(dir $(shell grep -ls '^package main' plugins/*/*.go))))
MODULES := $(GUESTS:%=%.wasm)
GUESTLIB = go.mod $(wildcard hostabi/*.go plugins/sdk/go/*.go plugins/sdk/go/*/*.go)

.PHONY: help build plugins run test lint vuln e2e soak bench fuzz clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: plugins ## build bin/weir and plugins/*.wasm
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags='-s -w -X main.version=$(VERSION)' -o bin/weir ./proxy/cmd/weir

plugins: $(MODULES) ## build plugins/*.wasm only

# -buildvcs=false: the same sources give the same bytes, and unchanged bytes
# are no reload. The new file takes the place of the old in one step, since a
# running Weir may be watching it, and until then has a name of its own, since
# `make run` and `make test` may be building it beside each other.
.SECONDEXPANSION:
$(MODULES): plugins/%.wasm: $$(wildcard plugins/%/*.go) $$(GUESTLIB)
	GOOS=wasip1 GOARCH=wasm go build -trimpath -buildvcs=false -buildmode=c-shared -ldflags='-s -w' -o $@.new.$$$$ ./plugins/$* && mv $@.new.$$$$ $@

run: build ## build, then run with CONFIG=gateway.toml
	@exec bin/weir run -c $(CONFIG)

# -vet=off: make lint vets everything once, not once for each way to build it.
test: plugins ## all tests of Go packages, with the race detector where there is a C compiler
	@$(if $(RACE),,echo 'no C compiler found: testing without -race')
	go test -vet=off $(RACE) -timeout 4m $$(go list ./... | grep -vE '$(SINGLE)')
	go test -vet=off -timeout 4m $$(go list ./... | grep -E '$(SINGLE)')
	go test -vet=off -timeout 4m -run 'GoGuest|Allocat|Thousand' ./hostabi/wasmhost ./proxy/gateway ./proxy/http1 ./proxy/relay ./proxy/upstream

lint: ## formatting, vet, staticcheck, direction of imports, known vulnerabilities
	@unformatted="$$($(TOOL) gofumpt -l hostabi plugins proxy $(wildcard bench e2e examples))"; \
	if [ -n "$$unformatted" ]; then printf 'not formatted with gofumpt:\n%s\n' "$$unformatted"; exit 1; fi
	go vet ./...
	$(if $(GUESTS),GOOS=wasip1 GOARCH=wasm go vet $(GUESTS:%=./%))
	$(if $(wildcard e2e/*.go),go vet -tags e2e ./e2e/...)
	GOOS=linux GOARCH=386 go vet ./...
	GOOS=darwin GOARCH=arm64 go vet ./...
	$(TOOL) staticcheck ./...
	go test -count=1 -run '^TestImports' ./proxy
	@$(MAKE) vuln

vuln: ## known vulnerabilities, when their database can be reached
	@tools/vuln.sh $(TOOL) govulncheck ./...

# What TestMain of e2e looks for.
e2e/node/node_modules/ws/package.json: e2e/node/package-lock.json
	npm ci --prefix e2e/node --no-audit --no-fund --silent
	@touch $@

e2e: build e2e/node/node_modules/ws/package.json ## end-to-end tests on real sockets, with Node's ws package among the clients; then fuzz
	go test -tags e2e -count=1 -timeout 20m ./e2e/...
	$(if $(X86),GOARCH=386 go test -vet=off -timeout 4m ./proxy/flow ./proxy/http1 ./proxy/relay ./proxy/wsframe)
	@$(MAKE) fuzz

soak: build e2e/node/node_modules/ws/package.json ## everything at once at random for SOAK=10m, or once from SEED=n, each message accounted for
	go test -tags e2e -count=1 -timeout 0 -run '^TestSoak$$' ./e2e -args $(if $(SEED),-seed $(SEED),-soak $(SOAK)) -round 30s

bench: build ## Weir beside nginx and HAProxy on one load generator; BENCH='-quick' or other flags
	go run ./bench $(BENCH)

fuzz: ## every fuzz target for FUZZTIME=30s, two at a time
	@tools/fuzz.sh $(FUZZTIME)

clean: ## remove what was built
	rm -rf bin bench/out e2e/node/node_modules
	rm -f plugins/*.wasm plugins/*.wasm.new.*
