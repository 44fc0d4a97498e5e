# picograd.   make run     sets up, builds, fetches a small model and generates text
#             make test    sets up, builds, runs every test
#             make help    lists the rest
# Everything that is built lies under $(BUILD).

VERSION := 0.1.0
SONAME  := libpicograd.so.0
PREFIX  ?= /usr/local
BUILD   ?= build
MODEL   ?= smollm2
PROMPT  ?= The three laws of thermodynamics say that

# One job per core. JOBS= sets another number: make 4.3 does not show a makefile its -j.
JOBS ?= $(shell nproc)
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(JOBS)
endif

# --- what there is to build -------------------------------------------------------------------
LAYERS  := base ir rewrite schedule codegen runtime engine tensor io models
SOURCES := $(foreach layer,$(LAYERS),$(wildcard src/$(layer)/*.c))
LIBRARY := $(wildcard src/runtime/library/*.c)
CLI     := $(wildcard src/cli/*.c)
TESTS   := $(wildcard tests/*/*_test.c)
FUZZERS := $(wildcard tests/fuzz/*_fuzz.c)
FUZZING := $(FUZZERS) $(addprefix tests/fuzz/,fuzz.c driver.c corpus.c)
HELPERS := $(filter-out $(TESTS) $(FUZZING),$(wildcard tests/*/*.c))
SCRIPTS := $(wildcard tests/*/*_test.sh)
# On simt as well; what those compile for it is then compiled for GPUs.
OPS      = $(filter $(BUILD)/tests/ops/%,$(PROGRAMS))
CUDA    := $(BUILD)/tests/codegen/cuda_text_test

OBJECTS      := $(SOURCES:%.c=$(BUILD)/%.o) \
                $(foreach isa,c avx2 avx512,$(LIBRARY:%.c=$(BUILD)/%.$(isa).o))
CLI_OBJECTS  := $(CLI:%.c=$(BUILD)/%.o)
TEST_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,tests/main.c $(HELPERS) $(TESTS) $(FUZZING))
PROGRAMS     := $(TESTS:%.c=$(BUILD)/%)
TARGETS      := $(FUZZERS:%.c=$(BUILD)/%)
COMMAND      := $(BUILD)/picograd

# --- flags ------------------------------------------------------------------------------------
CFLAGS   ?= -O2 -g
OBJCOPY  ?= objcopy
WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes $(if $(WERROR),-Werror)
# -ffp-contract=off: a product and a sum are fused only where the source says so, on every machine.
DIALECT  := -std=gnu11 -ffp-contract=off -fPIC -fvisibility=hidden -Isrc -Iinclude -DPG_VERSION='"$(VERSION)"'
CHECKS   := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer)

# Optional libraries: PG_HAVE_PCRE2 is defined and libpcre2-8 linked where pkg-config finds it.
OPTIONAL := libpcre2-8 jansson libutf8proc libedit sqlite3
FOUND    := $(strip $(foreach name,$(OPTIONAL),$(shell pkg-config --exists $(name) 2>/dev/null && \
            echo $(name))))
MISSING  := $(filter-out $(FOUND),$(OPTIONAL))
NOTE     := building with $(or $(FOUND),no optional library)$(if $(MISSING),; without $(MISSING))
HAVE_libpcre2-8 := -DPG_HAVE_PCRE2
HAVE_jansson := -DPG_HAVE_JANSSON
HAVE_libutf8proc := -DPG_HAVE_UTF8PROC
HAVE_libedit := -DPG_HAVE_LIBEDIT
HAVE_sqlite3 := -DPG_HAVE_SQLITE
ifneq ($(FOUND),)
FOUND_FLAGS := $(foreach name,$(FOUND),$(HAVE_$(name))) $(shell pkg-config --cflags $(FOUND))
endif
LINKED   := $(filter-out sqlite3,$(FOUND))  # sqlite3 is loaded when it is wanted: the core links nothing
ifneq ($(strip $(LINKED)),)
FOUND_LIBS  := $(shell pkg-config --libs $(LINKED))
endif
LIBS     := $(FOUND_LIBS) -lm -ldl -lpthread
# Without cmocka tests have the little of it that they use, which make gpu-check does with.
CMOCKA   := $(shell pkg-config --exists cmocka 2>/dev/null && pkg-config --cflags --libs cmocka)

# `make V=1` prints the commands themselves.
quiet = $(if $(V),,@echo '$(1) $@' &&)

COMPILE := $(CC) $(DIALECT) $(WARNINGS) $(CPPFLAGS) $(CFLAGS) $(CHECKS) $(FOUND_FLAGS)
LINK    := $(CC) $(CFLAGS) $(CHECKS) $(LDFLAGS) -Wl,--as-needed

# The kernel library is one source, compiled once for each instruction set. -Wno-pass-failed: not
# every loop over an op can become vectors (an integer division cannot), and clang would list each.
KERNEL_FLAGS := -O3 -fno-math-errno -fno-trapping-math -Wno-pass-failed
ISA_avx2     := -mavx2 -mfma -mf16c
ISA_avx512   := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c

# --- build ------------------------------------------------------------------------------------
.PHONY: all build deps run test check asan hostile fuzz fuzzers size layers format format-fix bench \
        bench-all ladder gpu-check install \
        uninstall clean help FORCE
.DELETE_ON_ERROR:
all: build

build: $(BUILD)/libpicograd.a $(BUILD)/libpicograd.so $(COMMAND)

# Rewritten only when the flags change, so that a change of flags rebuilds.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(subst ','\'',$(COMPILE) $(LINK) $(LIBS))' | cmp -s - $@ || \
	 { echo '$(subst ','\'',$(COMPILE) $(LINK) $(LIBS))' > $@; \
	   echo '$(NOTE)'; }

$(BUILD)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call quiet,compile) $(COMPILE) -MMD -MP -c $< -o $@

# Tuned schedules hold for this code: its checksum is part of their key.
CODEGEN := $(sort $(wildcard $(foreach layer,ir rewrite schedule codegen,src/$(layer)/*)))
$(BUILD)/src/engine/tuned.o: $(CODEGEN)
$(BUILD)/src/engine/tuned.o: private COMPILE += -DPG_CODEGEN='"$(firstword $(shell cat $(CODEGEN) | cksum))"'

# $(1): the instruction set, also the suffix of the functions' names
define kernel_rule
$(BUILD)/src/runtime/library/%.$(1).o: src/runtime/library/%.c $(BUILD)/flags
	@mkdir -p $$(@D)
	$$(call quiet,compile) $(COMPILE) $(KERNEL_FLAGS) $(ISA_$(1)) -DPG_SUFFIX=$(1) -MMD -MP -c $$< -o $$@
endef
$(foreach isa,c avx2 avx512,$(eval $(call kernel_rule,$(isa))))

# Made anew, so that the object of a source that is gone does not stay in it.
$(BUILD)/libpicograd.a: $(OBJECTS)
	@rm -f $@
	$(call quiet,archive) $(AR) rcs $@ $^

# nodelete: the pool's threads and compiled kernels outlive a dlclose.
$(BUILD)/libpicograd.so: $(OBJECTS)
	$(call quiet,link) $(LINK) -shared -Wl,-soname,$(SONAME) -Wl,-z,nodelete $^ $(LIBS) -o $@
	@ln -sf libpicograd.so $(BUILD)/$(SONAME)

$(BUILD)/picograd: $(CLI_OBJECTS) $(BUILD)/libpicograd.a
	$(call quiet,link) $(LINK) $^ $(LIBS) -o $@

# private: what a test object depends on is compiled as ever.
$(TEST_OBJECTS): private COMPILE += -Itests $(if $(CMOCKA),,-Itests/plain)

# What several tests share: linked from an archive, so that each takes what it uses.
$(BUILD)/tests/helpers.a: $(HELPERS:%.c=$(BUILD)/%.o)
	@rm -f $@
	$(call quiet,archive) $(AR) rcs $@ $^

$(PROGRAMS): $(BUILD)/%: $(BUILD)/%.o $(BUILD)/tests/main.o $(BUILD)/tests/helpers.a $(BUILD)/libpicograd.a
	$(call quiet,link) $(LINK) $^ $(CMOCKA) $(LIBS) -o $@

# FUZZER=-fsanitize=fuzzer: clang's libFuzzer in place of our driver.
$(TARGETS): $(BUILD)/%: $(BUILD)/%.o $(BUILD)/tests/fuzz/fuzz.o $(if $(FUZZER),,$(BUILD)/tests/fuzz/driver.o) \
            $(BUILD)/tests/helpers.a $(BUILD)/libpicograd.a
	$(call quiet,link) $(LINK) $(FUZZER) $^ $(LIBS) -o $@

$(BUILD)/tests/fuzz/corpus: $(BUILD)/tests/fuzz/corpus.o $(BUILD)/tests/helpers.a $(BUILD)/libpicograd.a
	$(call quiet,link) $(LINK) $^ $(LIBS) -o $@

fuzzers: $(TARGETS) $(BUILD)/tests/fuzz/corpus

$(BUILD)/bench/ladder/table.o: private COMPILE += -Itests
$(BUILD)/bench/ladder/table: $(BUILD)/bench/ladder/table.o $(BUILD)/tests/helpers.a $(BUILD)/libpicograd.a
	$(call quiet,link) $(LINK) $^ $(LIBS) -o $@

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

# --- use --------------------------------------------------------------------------------------
# What deps installs is found by the second make, not by this one.
run:    ## set up, build, get a small model, generate text
	@scripts/deps.sh
	@$(MAKE) --no-print-directory build
	@model='$(MODEL)'; \
	 if ! { [ -e "$$model" ] || $(BUILD)/picograd models pull "$$model"; } || \
	    ! $(BUILD)/picograd tokenize -m "$$model" -p . >/dev/null; then \
	  echo "note: $$model cannot be used; random weights of its shape take its place" >&2; \
	  model=random; \
	 fi; \
	 $(BUILD)/picograd generate -m "$$model" -p '$(subst ','\'',$(PROMPT))' -n 64

deps:   ## install what is missing, or say which command would
	@scripts/deps.sh
	@scripts/nvrtc.sh

test:   ## set up, build, run every test
	@scripts/deps.sh test
	@scripts/nvrtc.sh
	@$(MAKE) --no-print-directory build
	@$(BUILD)/picograd models pull smollm2 || echo "note: tests that need smollm2 will be skipped" >&2
	@$(MAKE) --no-print-directory check

check: build $(PROGRAMS) fuzzers    ## the tests alone, without set-up
	@scripts/test.sh $(BUILD) $(filter-out $(CUDA),$(PROGRAMS)) $(OPS:%=simt:%) $(CUDA) \
	  $(SCRIPTS) scripts/size.sh scripts/layers.sh

# llama_test takes minutes there.
asan:   ## the tests under the address and undefined-behaviour sanitizers
	@PG_TEST_SECONDS=$${PG_TEST_SECONDS:-3600} $(MAKE) --no-print-directory check BUILD=build/asan SANITIZE=address,undefined

hostile: ## the same with one object per arena chunk and two-slot hash tables
	@PG_HOSTILE=1 $(MAKE) --no-print-directory asan

# With clang its libFuzzer, else gcc's sanitizers and our own driver. SECONDS: of each target.
fuzz:   ## fuzz what reads files and texts, SECONDS=60 each; findings stay in build/fuzz
	@if scripts/fuzz.sh clang; then \
	   $(MAKE) --no-print-directory fuzzers BUILD=build/fuzz CC=clang \
	     SANITIZE=fuzzer-no-link,address,undefined FUZZER=-fsanitize=fuzzer; \
	 else \
	   $(MAKE) --no-print-directory fuzzers BUILD=build/fuzz SANITIZE=address,undefined; \
	 fi
	@scripts/fuzz.sh build/fuzz '$(or $(SECONDS),60)' $(FUZZ)

size:   ## lines of code of the core, per folder, against their caps
	@scripts/size.sh

layers: ## each layer includes only layers above it
	@scripts/layers.sh

format: ## is the C laid out as .clang-format says
	@scripts/format.sh

format-fix: ## lay it out
	@scripts/format.sh fix

# ROWS: names as in `picograd bench --list`; ROUNDS: of each, 3.
BENCH = command -v python3 >/dev/null || { echo 'the benchmark needs python3' >&2; exit 1; }; \
        bench/peers.sh && python3 bench/bench.py --picograd $(COMMAND) -o $(BUILD) -r $(or $(ROUNDS),3)

bench: build ## measure beside the peers, some 15 minutes; ROWS="matmul:1024" ROUNDS=3
	@$(BENCH) $(ROWS)

bench-all: build ## every row, beside every peer: hours
	@$(BENCH) --all $(ROWS)

ladder: $(BUILD)/bench/ladder/table ## what bench/ladder's kernels ask of a GPU, seconds; GPU=h100 ROWS=1024
	@$< $(or $(GPU),h100) $(ROWS)

gpu-check: ## on a machine with an NVIDIA GPU: check and measure everything; MODEL=file.gguf too
	@scripts/gpu_check.sh $(if $(filter-out smollm2,$(MODEL)),'$(MODEL)')

# --- install ----------------------------------------------------------------------------------
# The folders of GNU's conventions: make install prefix=/usr libdir=/usr/lib/x86_64-linux-gnu
prefix     = $(PREFIX)
BINDIR     = $(prefix)/bin
LIBDIR     = $(prefix)/lib
INCLUDEDIR = $(prefix)/include
DATADIR    = $(prefix)/share
MANDIR     = $(datadir)/man
bindir     = $(BINDIR)
libdir     = $(LIBDIR)
includedir = $(INCLUDEDIR)
datadir    = $(DATADIR)
mandir     = $(MANDIR)

PUBLIC := $(BUILD)/public/libpicograd.a $(BUILD)/public/picograd.bash $(BUILD)/public/man/picograd.1

# One object, in which only pg_ names are global: a program may have a `fail` or `say` of its own.
# Of code that was left to the linker (-flto) it is the machine code.
$(BUILD)/public/libpicograd.a: $(OBJECTS)
	@mkdir -p $(@D) && rm -f $@
	$(call quiet,archive) $(CC) $(CFLAGS) $(if $(findstring -flto,$(CFLAGS)),-flinker-output=nolto-rel) \
	  -r -nostdlib $^ -o $(@D)/picograd.o && \
	 $(OBJCOPY) --localize-hidden $(@D)/picograd.o && $(AR) rcs $@ $(@D)/picograd.o

$(BUILD)/public/picograd.bash: $(COMMAND)
	@mkdir -p $(@D)
	$(call quiet,write) $(COMMAND) help --bash > $@

$(BUILD)/public/man/picograd.1: $(COMMAND)
	@rm -rf $(@D) && mkdir -p $(@D)
	$(call quiet,write) $(COMMAND) help --man > $@ && \
	 for name in $$($(COMMAND) help --commands); do \
	  $(COMMAND) help --man $$name > $(@D)/picograd-$$name.1 || exit 1; \
	 done

# Through the environment, where blanks need no quotes. libs: what programs link beside the archive;
# libedit is the command's own.
install uninstall: export build := $(BUILD)
install uninstall: export version := $(VERSION)
install uninstall: export soname := $(SONAME)
install uninstall: export libs := $(filter-out -ledit,$(LIBS))
install uninstall: export prefix := $(prefix)
install uninstall: export bindir := $(bindir)
install uninstall: export libdir := $(libdir)
install uninstall: export includedir := $(includedir)
install uninstall: export datadir := $(datadir)
install uninstall: export mandir := $(mandir)
install uninstall: export DESTDIR := $(DESTDIR)

install: build $(PUBLIC) ## below PREFIX=/usr/local; DESTDIR= bindir= libdir= includedir= mandir=
	@scripts/install.sh install

uninstall: ## take away what install put there, given the same
	@scripts/install.sh uninstall

clean:  ## remove $(BUILD)
	rm -rf $(BUILD)

help:
	@echo 'make         build build/picograd and build/libpicograd.{a,so}'
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1|\2/p' Makefile | \
	 while IFS='|' read -r name what; do printf 'make %-10s %s\n' "$$name" "$$what"; done
	@echo 'CC=clang CFLAGS=... WERROR=1 (warnings are errors) V=1 (show commands) JOBS=1 BUILD=folder'
