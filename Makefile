# build      bin/snapfs
# try        the main job from end to end on a real tree, with times
# test       vet and all tests; what a machine lacks (root, FUSE, tools) is skipped with the reason
# test-long  the kill and fault tests with 200 moments in each phase, years of archives, real releases of a large program; takes hours
# race       the same under the race detector
# fuzz       every fuzz target for a while: make fuzz FUZZTIME=1m
# bench      Go benchmarks, then the comparison with other programs
# lint       gofmt, vet, staticcheck

GO       ?= go
FUZZTIME ?= 10s

# Pinned: a newer one may find what this one did not.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck
STATICCHECK_VERSION := v0.8.2

.PHONY: build try test test-long race fuzz bench lint vet clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o bin/snapfs ./cmd/snapfs

try: build
	@bash integration/try.sh bin/snapfs

test: vet
	$(GO) test -timeout 60m ./...

test-long: vet
	SNAPFS_TEST_LONG=1 $(GO) test -v -timeout 12h -run 'Kill|Fail|Fault|PowerLoss|Thousands|Destroy|Truth|Releases|Schedule|Hostile' ./store ./snapshot ./snapshot/archive ./integration

race: vet
	$(GO) test -race -timeout 2h ./...

fuzz:
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; \
	done

bench: build
	$(GO) test -run '^$$' -bench . -benchmem ./...
	$(GO) run ./integration/bench

vet:
	$(GO) vet ./...

lint: vet
	@files=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$files" ]; then echo "not formatted by gofmt:"; echo "$$files"; exit 1; fi
	@if $(GO) run $(STATICCHECK)@$(STATICCHECK_VERSION) -version; then $(GO) run $(STATICCHECK)@$(STATICCHECK_VERSION) ./...; \
	else echo "lint: staticcheck cannot be fetched and run here, skipped"; fi

clean:
	rm -rf bin
