/* target.c - which instruction set kernels are compiled for.
 * In: the CPU, PG_ISA.  Out: a row.
 * Invariant: the best-first table's last row runs everywhere; a PG_ISA that this CPU does not have
 * is fatal, not an illegal instruction later.   PG_ISA=avx2  =>  8 lanes, 16 registers, -mavx2   */
#define _GNU_SOURCE
#include "runtime/runtime.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

// The operating system keeps a register file's content if its bits are set in XCR0.
static bool system_keeps(unsigned bits) {
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return false;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & bits) == bits;
}

// With FMA, which came together with BMI2 and F16C.
static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi2");
}

static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

// The kernel keeps tiles, 8 KB of them, only for a process that has asked, since Linux 5.16.
static bool may_use_tiles(void) {
    enum { REQUEST = 0x1023, TILE_DATA = 18 };  // ARCH_REQ_XCOMP_PERM, a bit of XCR0
    return !syscall(SYS_arch_prctl, REQUEST, TILE_DATA);
}

static bool find_amx(void) {
    enum { AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24, TILES = 3 << 17 };  // cpuid 7 edx; XCR0
    unsigned a, b, c, d;
    return has_avx512() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && d & AMX_BF16 &&
           d & AMX_TILE && system_keeps(TILES) && may_use_tiles();
}

// Asked once: whoever asks again would be answered by the system each time.
static bool has_amx(void) {
    static atomic_int known;  // 0 not yet, 1 no, 2 yes
    int state = atomic_load_explicit(&known, memory_order_relaxed);
    if (!state) {
        state = find_amx() ? 2 : 1;
        atomic_store_explicit(&known, state, memory_order_relaxed);
    }
    return state == 2;
}
#else
static bool has_avx2(void) { return false; }
static bool has_avx512(void) { return false; }
static bool has_amx(void) { return false; }
#endif

static bool has_c(void) { return true; }

#define AVX2   "-mavx2 -mfma -mf16c -mbmi -mbmi2"
#define AVX512 AVX2 " -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512"
#define AMX    AVX512 " -mamx-tile -mamx-bf16"

static const struct {
    bool (*needs)(void);
    Target target;
} rows[] = {
    {has_amx, {"avx512", 16, 32, AMX, true}},
    {has_avx512, {"avx512", 16, 32, AVX512, false}},
    {has_avx2, {"avx2", 8, 16, AVX2, false}},
    {has_c, {"c", 4, 16, "", false}},
    // AMX's sums in plain C, slowly, where the instructions are not: only for who names it.
    {has_avx2, {"amx-c", 8, 16, AVX2, true}},
    {has_c, {"amx-c", 4, 16, "", true}},
};

// PG_ISA=ref is the reference interpreter's name; what runs beside it may be the best.
const Target *target(void) {
    const char *wanted = env_text("ISA", "ref");
    bool any = !strcmp(wanted, "ref"), known = any;
    for (int i = 0; i < COUNT_OF(rows); i++) {
        if (!any && strcmp(wanted, rows[i].target.name)) continue;
        if (rows[i].needs()) return &rows[i].target;
        known = true;
    }
    if (known) fatal("PG_ISA=%s: this CPU does not have it", wanted);
    fatal("PG_ISA=%s is not known. Hint: c, avx2, avx512, amx-c or ref", wanted);
}
