/* prelude_gpu.c - what is a PTX instruction in kernels for GPUs: a named wrapper each.
 * In: the body of a rendered text.  Out: the head and the wrappers that it names, in the common
 * subset of C11 and CUDA C++: inline PTX or a builtin for NVRTC, C for src/runtime/simt.c.
 * Invariants: all else in a rendered text is the same for both compilers; wrappers of a warp are
 * called by its 32 lanes together, barrier by all threads; a text may stand in a file twice; f32,
 * i32, u32 and i64 are there already (prelude.c).
 *   prelude_gpu_add(&text, arena, "... f32 sum = x + shuffle_xor_f32(x, 16); ...")
 * Sources: the PTX ISA 9.0's sections by their names, and the CUDA C++ Programming Guide's. What
 * the compiler has a builtin for is left to it: it knows that such calls must not move into
 * branches.                                                                                     */
#include "codegen/codegen.h"

#include <ctype.h>
#include <string.h>

typedef struct {
    const char *name, *cuda, *c;
} Wrapper;

// clang-format off
static const char cuda_head[] =
    "#define KERNEL(threads) extern \"C\" __global__ void __launch_bounds__(threads)\n"
    "#define SELF\n"
    "#define ME\n";

// As in runtime.h: a thread, and what it has for the others of its warp while they meet.
static const char c_head[] =
    "#define KERNEL(threads) static void\n"
    "#define SELF SimtThread *self,\n"
    "#define ME self,\n"
    "typedef struct {\n"
    "    u32 word[16];\n"
    "} SimtLane;\n"
    "typedef struct SimtThread SimtThread;\n"
    "typedef void SimtFunction(SimtThread *self, void *const *param);\n"
    "struct SimtThread {\n"
    "    i32 thread, block, blocks, threads;\n"
    "    char *shared;\n"
    "    SimtLane *give;\n"
    "    const SimtLane *(*meet)(SimtThread *self, i32 where);\n"
    "    void (*copy)(SimtThread *self, void *to, const void *from, i32 bytes, i32 there);\n"
    "    void (*commit)(SimtThread *self);\n"
    "    void (*settle)(SimtThread *self, i32 groups);\n"
    "    void (*arrival)(SimtThread *self, i32 what, void *at, i32 value);\n"
    "    void (*bulk)(SimtThread *self, void *to, const void *from, i32 bytes, void *at);\n"
    "    void (*product)(SimtThread *self, f32 *c, const f32 *a, i64 b, i32 columns);\n"
    "    void (*order)(SimtThread *self, i32 what);\n"
    "    void (*access)(SimtThread *self, const void *at, i64 bytes, i32 write,\n"
    "                   const void *site);\n"
    "};\n"
    "enum { SIMT_BARRIER = 1, SIMT_WARP_BARRIER, SIMT_SHUFFLE, SIMT_BALLOT, SIMT_MMA };\n"
    "enum { SIMT_INIT, SIMT_INIT_FENCE, SIMT_EXPECT, SIMT_WAIT };\n"
    "enum { SIMT_FENCE = -1, SIMT_COMMIT = -2, SIMT_SHOW = -3 };\n"
    "#ifndef SIMT_QUIET\n"
    "#define SIMT_QUIET\n"
    "#endif\n";

// "Warp Shuffle Functions"; an i64 goes as two halves. A macro in C, since it passes `self`.
#define SHUFFLES(type)                                                                          \
    {"shuffle_" #type,                                                                          \
     "#define shuffle_" #type "(x, lane) __shfl_sync(0xffffffffu, x, lane)\n",                  \
     "static inline " #type " simt_shuffle_" #type "(SimtThread *self, " #type " x, i32 lane) {\n" \
     "    __builtin_memcpy(self->give, &x, sizeof x);\n"                                        \
     "    __builtin_memcpy(&x, &self->meet(self, SIMT_SHUFFLE)[lane & 31], sizeof x);\n"        \
     "    return x;\n"                                                                          \
     "}\n"                                                                                      \
     "#define shuffle_" #type "(x, lane) simt_shuffle_" #type "(self, x, lane)\n"},             \
    {"shuffle_xor_" #type,                                                                      \
     "#define shuffle_xor_" #type "(x, mask) __shfl_xor_sync(0xffffffffu, x, mask)\n",          \
     "#define shuffle_xor_" #type "(x, mask) shuffle_" #type "(x, self->thread ^ (mask))\n"}

// "Data Movement and Conversion Instructions: cp.async": the addresses are of the shared and the
// global window; .cg, past L1, takes 16 bytes only; behind the first src-size bytes come zeros.
// volatile and "memory": no access of the compiler's may pass it.
#define COPY(bytes, level)                                                                      \
    {"copy_async_" bytes,                                                                       \
     "static __forceinline__ void copy_async_" bytes "(void *shared, const void *global) {\n"   \
     "    asm volatile(\"cp.async." level ".shared.global [%0], [%1], " bytes ";\"\n"           \
     "                 :: \"r\"((u32)__cvta_generic_to_shared(shared)),\n"                      \
     "                    \"l\"(__cvta_generic_to_global(global)) : \"memory\");\n"             \
     "}\n",                                                                                     \
     "#define copy_async_" bytes "(shared, global) \\\n"                                        \
     "    self->copy(self, shared, global, " bytes ", 1)\n"},                                   \
    {"copy_async_" bytes "_if",                                                                 \
     "static __forceinline__ void copy_async_" bytes "_if(void *shared, const void *global,\n"  \
     "                                              bool condition) {\n"                        \
     "    asm volatile(\"cp.async." level ".shared.global [%0], [%1], " bytes ", %2;\"\n"       \
     "                 :: \"r\"((u32)__cvta_generic_to_shared(shared)),\n"                      \
     "                    \"l\"(__cvta_generic_to_global(global)),\n"                           \
     "                    \"r\"(condition ? " bytes " : 0) : \"memory\");\n"                    \
     "}\n",                                                                                     \
     "#define copy_async_" bytes "_if(shared, global, condition) \\\n"                          \
     "    self->copy(self, shared, global, " bytes ", !!(condition))\n"}

// A row stands behind those that it names.
static const Wrapper wrappers[] = {
    // The CUDA C++ Programming Guide's "#pragma unroll", and GCC's "Loop-Specific Pragmas".
    {"PRAGMA", "#define PRAGMA(words) _Pragma(#words)\n",
     "#define PRAGMA(words) _Pragma(#words)\n"},
    {"UNROLL", "#define UNROLL(times) PRAGMA(unroll times)\n",
     "#define UNROLL(times) PRAGMA(GCC unroll times)\n"},
    // "Special Registers: %tid, %ctaid, %nctaid"
    {"thread_index", "#define thread_index() ((i32)threadIdx.x)\n",
     "#define thread_index() (self->thread)\n"},
    {"block_index", "#define block_index() ((i32)blockIdx.x)\n",
     "#define block_index() (self->block)\n"},
    {"block_count", "#define block_count() ((i32)gridDim.x)\n",
     "#define block_count() (self->blocks)\n"},
    // Aligned as the strictest user of it wants: the bulk copy engine's swizzle of 128 bytes
    // repeats after 1024.
    {"shared_at",
     "extern __shared__ __align__(1024) char shared_memory[];\n"
     "#define shared_at(bytes) (shared_memory + (bytes))\n",
     "#define shared_at(bytes) (self->shared + (bytes))\n"},
    // "Parallel Synchronization and Communication Instructions: bar, bar.warp.sync"
    {"barrier", "#define barrier() __syncthreads()\n",
     "#define barrier() ((void)self->meet(self, SIMT_BARRIER))\n"},
    {"warp_barrier", "#define warp_barrier() __syncwarp(0xffffffffu)\n",
     "#define warp_barrier() ((void)self->meet(self, SIMT_WARP_BARRIER))\n"},
    SHUFFLES(f32), SHUFFLES(i32), SHUFFLES(u32), SHUFFLES(i64),
    // "Warp Vote Functions"
    {"ballot", "#define ballot(condition) ((u32)__ballot_sync(0xffffffffu, condition))\n",
     "static inline u32 simt_ballot(SimtThread *self, i32 condition) {\n"
     "    u32 votes = 0;\n"
     "    self->give->word[0] = condition;\n"
     "    const SimtLane *lane = self->meet(self, SIMT_BALLOT);\n"
     "    for (i32 i = 0; i < 32; i++) votes |= lane[i].word[0] << i;\n"
     "    return votes;\n"
     "}\n"
     "#define ballot(condition) simt_ballot(self, !!(condition))\n"},
    // "Data Movement and Conversion Instructions: cvt": .rna is to nearest, ties away from zero;
    // .tf32 lives in a .b32 register. In memory it is an f32 with 13 bits of zeros.
    {"round_tf32",
     "static __forceinline__ f32 round_tf32(f32 x) {\n"
     "    u32 bits;\n"
     "    asm(\"cvt.rna.tf32.f32 %0, %1;\" : \"=r\"(bits) : \"f\"(x));\n"
     "    return __uint_as_float(bits);\n"
     "}\n",
     "static inline f32 round_tf32(f32 x) {\n"
     "    u32 bits;\n"
     "    __builtin_memcpy(&bits, &x, 4);\n"
     "    if (x != x) return x;\n"
     "    bits = (bits + 0x1000) & 0xffffe000;\n"
     "    __builtin_memcpy(&x, &bits, 4);\n"
     "    return x;\n"
     "}\n"},
    // "Warp Level Matrix Multiply-Accumulate Instructions: mma"; who holds what: "Matrix Fragments
    // for mma.m16n8k8", .tf32. In C the low 13 bits of a factor are dropped, as the unit does, so a
    // product has 22 bits and is exact but for denormals; then c + p0 + p1 ... + p7 in f32, which
    // is within 8 * 2^-24 of the exact sum, by the sum of all the terms' sizes. What order and
    // rounding the unit has is not documented: results of both are held to 2^-20 by the same sizes.
    {"mma_tf32_16x8x8",
     "static __forceinline__ void mma_tf32_16x8x8(f32 *c, const f32 *a, const f32 *b) {\n"
     "    asm volatile(\"mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 \"\n"
     "                 \"{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\"\n"
     "                 : \"+f\"(c[0]), \"+f\"(c[1]), \"+f\"(c[2]), \"+f\"(c[3])\n"
     "                 : \"r\"(__float_as_uint(a[0])), \"r\"(__float_as_uint(a[1])),\n"
     "                   \"r\"(__float_as_uint(a[2])), \"r\"(__float_as_uint(a[3])),\n"
     "                   \"r\"(__float_as_uint(b[0])), \"r\"(__float_as_uint(b[1])));\n"
     "}\n",
     "static inline void simt_factor(u32 *to, f32 x) {\n"
     "    __builtin_memcpy(to, &x, 4);\n"
     "    *to &= 0xffffe000;\n"
     "}\n"
     "static inline void simt_mma(SimtThread *self, f32 *c, const f32 *a, const f32 *b) {\n"
     "    const i32 group = (self->thread & 31) >> 2, place = self->thread & 3;\n"
     "    for (i32 i = 0; i < 4; i++) simt_factor(&self->give->word[i], a[i]);\n"
     "    for (i32 i = 0; i < 2; i++) simt_factor(&self->give->word[4 + i], b[i]);\n"
     "    const SimtLane *lane = self->meet(self, SIMT_MMA);\n"
     "    const SimtLane *row = lane + 4 * group, *column = lane + 8 * place;\n"
     "    f32 sum[4] = {c[0], c[1], c[2], c[3]};\n"
     "    for (i32 k = 0; k < 8; k++) {\n"
     "        f32 left[2], right[2];\n"
     "        __builtin_memcpy(left, &row[k & 3].word[(k >> 2) * 2], 8);\n"
     "        __builtin_memcpy(&right[0], &column[k & 3].word[4 + (k >> 2)], 4);\n"
     "        __builtin_memcpy(&right[1], &column[4 + (k & 3)].word[4 + (k >> 2)], 4);\n"
     "        sum[0] += left[0] * right[0];\n"
     "        sum[1] += left[0] * right[1];\n"
     "        sum[2] += left[1] * right[0];\n"
     "        sum[3] += left[1] * right[1];\n"
     "    }\n"
     "    __builtin_memcpy(c, sum, 16);\n"
     "}\n"
     "#define mma_tf32_16x8x8(c, a, b) simt_mma(self, c, a, b)\n"},
    COPY("16", "cg"), COPY("4", "ca"),
    // "cp.async.commit_group", "cp.async.wait_group"
    {"copy_async_commit",
     "#define copy_async_commit() asm volatile(\"cp.async.commit_group;\" ::: \"memory\")\n",
     "#define copy_async_commit() self->commit(self)\n"},
    {"copy_async_wait",
     "#define copy_async_wait(n) \\\n"
     "    asm volatile(\"cp.async.wait_group %0;\" :: \"n\"(n) : \"memory\")\n",
     "#define copy_async_wait(n) self->settle(self, n)\n"},
    // Barriers for bytes, of sm_90: "Parallel Synchronization and Communication Instructions:
    // mbarrier.init, mbarrier.arrive (.expect_tx), mbarrier.try_wait (.parity)". 8 bytes of shared
    // memory each; one thread initialises them, says so to the copy engine by both fences ("membar,
    // fence": .mbarrier_init, .proxy.async; the latter is what the CUDA C++ Programming Guide has
    // there, the former CUTLASS's fence_barrier_init), and all meet before they are used.
    {"barrier_init",
     "static __forceinline__ void barrier_init(i64 *at, i32 count) {\n"
     "    asm volatile(\"mbarrier.init.shared::cta.b64 [%0], %1;\"\n"
     "                 :: \"r\"((u32)__cvta_generic_to_shared(at)), \"r\"(count) : \"memory\");\n"
     "}\n",
     "#define barrier_init(at, count) self->arrival(self, SIMT_INIT, at, count)\n"},
    {"barrier_fence",
     "static __forceinline__ void barrier_fence() {\n"
     "    asm volatile(\"fence.mbarrier_init.release.cluster;\" ::: \"memory\");\n"
     "    asm volatile(\"fence.proxy.async.shared::cta;\" ::: \"memory\");\n"
     "}\n",
     "#define barrier_fence() self->arrival(self, SIMT_INIT_FENCE, 0, 0)\n"},
    {"barrier_expect",  // arrives, and so many bytes more are to come before the phase ends
     "static __forceinline__ void barrier_expect(i64 *at, i32 bytes) {\n"
     "    asm volatile(\"mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\"\n"
     "                 :: \"r\"((u32)__cvta_generic_to_shared(at)), \"r\"(bytes) : \"memory\");\n"
     "}\n",
     "#define barrier_expect(at, bytes) self->arrival(self, SIMT_EXPECT, at, bytes)\n"},
    {"barrier_wait",  // until the phase of that parity is over; it was this one or the last one
     "static __forceinline__ void barrier_wait(i64 *at, i32 parity) {\n"
     "    u32 over;\n"
     "    do {\n"
     "        asm volatile(\"{\\n.reg .pred over;\\n\"\n"
     "                     \"mbarrier.try_wait.parity.shared::cta.b64 over, [%1], %2;\\n\"\n"
     "                     \"selp.u32 %0, 1, 0, over;\\n}\" : \"=r\"(over)\n"
     "                     : \"r\"((u32)__cvta_generic_to_shared(at)), \"r\"(parity)\n"
     "                     : \"memory\");\n"
     "    } while (!over);\n"
     "}\n",
     "#define barrier_wait(at, parity) self->arrival(self, SIMT_WAIT, at, parity)\n"},
    // "Data Movement and Conversion Instructions: cp.async.bulk": by one thread, 16 bytes at a time
    // and aligned so; its bytes come to the barrier. As CUTLASS's SM90_BULK_COPY_G2S.
    {"copy_bulk",
     "static __forceinline__ void copy_bulk(void *shared, const void *global, i32 bytes,\n"
     "                                      i64 *at) {\n"
     "    asm volatile(\"cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes \"\n"
     "                 \"[%0], [%1], %2, [%3];\"\n"
     "                 :: \"r\"((u32)__cvta_generic_to_shared(shared)),\n"
     "                    \"l\"(__cvta_generic_to_global(global)), \"r\"(bytes),\n"
     "                    \"r\"((u32)__cvta_generic_to_shared(at)) : \"memory\");\n"
     "}\n",
     "#define copy_bulk(shared, global, bytes, at) self->bulk(self, shared, global, bytes, at)\n"},
    // "Memory Consistency Model: Async Proxy", "membar, fence": wgmma reads shared memory by a way
    // of its own; who wrote says so before it meets the others.
    {"shared_fence_async",
     "#define shared_fence_async() \\\n"
     "    asm volatile(\"fence.proxy.async.shared::cta;\" ::: \"memory\")\n",
     "#define shared_fence_async() self->order(self, SIMT_SHOW)\n"},
    // "Asynchronous Warpgroup Level Matrix Instructions": wgmma.fence, .commit_group, .wait_group.
    {"wgmma_fence",
     "#define wgmma_fence() asm volatile(\"wgmma.fence.sync.aligned;\" ::: \"memory\")\n",
     "#define wgmma_fence() self->order(self, SIMT_FENCE)\n"},
    {"wgmma_commit",
     "#define wgmma_commit() asm volatile(\"wgmma.commit_group.sync.aligned;\" ::: \"memory\")\n",
     "#define wgmma_commit() self->order(self, SIMT_COMMIT)\n"},
    {"wgmma_wait",
     "#define wgmma_wait(n) \\\n"
     "    asm volatile(\"wgmma.wait_group.sync.aligned %0;\" :: \"n\"(n) : \"memory\")\n",
     "#define wgmma_wait(n) self->order(self, n)\n"},
    // No instruction: the compiler computes these registers before it, and reads them behind it.
    {"wgmma_hold",
     "#define wgmma_hold(x, count) \\\n"
     "    _Pragma(\"unroll\") for (i32 held = 0; held < (count); held++) \\\n"
     "        asm volatile(\"\" : \"+f\"((x)[held]) :: \"memory\")\n",
     "#define wgmma_hold(x, count) ((void)(x))\n"},
    // "Matrix Descriptor Format": 18 bits of an address less the lowest four; what is apart along k
    // is the leading dimension's offset, along the columns the stride's ("Strides": K-major, no
    // swizzling; CUTLASS's cute/arch/mma_sm90_desc.hpp says the same).
    {"wgmma_descriptor",
     "static __forceinline__ i64 wgmma_descriptor(const void *at, i32 along_k, i32 along_n) {\n"
     "    const i64 low = (u32)__cvta_generic_to_shared(at) >> 4 & 0x3fff;\n"
     "    return low | (i64)(along_k >> 4) << 16 | (i64)(along_n >> 4) << 32;\n"
     "}\n",
     "#define wgmma_descriptor(at, along_k, along_n) \\\n"
     "    (((char *)(at) - self->shared) >> 4 | (i64)((along_k) >> 4) << 16 | \\\n"
     "     (i64)((along_n) >> 4) << 32)\n"},
};
// clang-format on

static void add_once(Text *text, const char *name, const char *content) {
    text_add(text, "#ifndef PG_HAS_%s\n#define PG_HAS_%s\n%s#endif\n", name, name, content);
}

// wgmma_tf32_64xNx8(c, a, b) for the columns that the text names: "wgmma.mma_async"; who holds
// what: "Matrix Fragments for wgmma.mma_async.m64nNk8"; b is a descriptor. C: simt_products.c.
static void add_warpgroup(Text *text, Arena *arena, Text *c, int columns) {
    const char *name = arena_print(arena, "wgmma_tf32_64x%dx8", columns);
    int sums = columns / 2;
    Text numbers = text_new(arena), operands = text_new(arena);
    for (int i = 0; i < sums; i++) {
        text_add(&numbers, "%s%%%d", i ? ", " : "", i);
        text_add(&operands, "%s\"+f\"(c[%d])", !i ? "" : i % 6 ? ", " : ",\n          ", i);
    }
    add_once(text, name,
             arena_print(
                 arena,
                 "static __forceinline__ void %s(f32 *c, const f32 *a, i64 b) {\n"
                 "    asm volatile(\"wgmma.mma_async.sync.aligned.m64n%dk8.f32.tf32.tf32 \"\n"
                 "        \"{%s}, \"\n"
                 "        \"{%%%d, %%%d, %%%d, %%%d}, %%%d, 1, 1, 1;\"\n"
                 "        : %s\n"
                 "        : \"r\"(__float_as_uint(a[0])), \"r\"(__float_as_uint(a[1])),\n"
                 "          \"r\"(__float_as_uint(a[2])), \"r\"(__float_as_uint(a[3])), \"l\"(b)\n"
                 "        : \"memory\");\n"
                 "}\n",
                 name, columns, numbers.at, sums, sums + 1, sums + 2, sums + 3, sums + 4,
                 operands.at));
    add_once(c, name,
             arena_print(arena, "#define %s(c, a, b) self->product(self, c, a, b, %d)\n", name,
                         columns));
}

static bool names(const char *text, const char *name) {
    size_t length = strlen(name);
    for (const char *at = text; (at = strstr(at, name)); at += length) {
        bool inside = at > text && (isalnum((unsigned char)at[-1]) || at[-1] == '_');
        if (!inside && !isalnum((unsigned char)at[length]) && at[length] != '_') return true;
    }
    return false;
}

// From the last row to the first, which are all that a row may name.
static void find_used(const char *body, bool used[COUNT_OF(wrappers)]) {
    for (int i = COUNT_OF(wrappers) - 1; i >= 0; i--) {
        used[i] = names(body, wrappers[i].name);
        for (int j = i + 1; j < COUNT_OF(wrappers) && !used[i]; j++)
            used[i] = used[j] && (names(wrappers[j].cuda, wrappers[i].name) ||
                                  names(wrappers[j].c, wrappers[i].name));
    }
}

void prelude_gpu_add(Text *text, Arena *arena, const char *body) {
    bool used[COUNT_OF(wrappers)];
    Text c = text_new(arena);
    find_used(body, used);
    text_add(text, "#ifdef __CUDACC__\n");
    add_once(text, "KERNEL", cuda_head);
    add_once(&c, "KERNEL", c_head);
    for (int i = 0; i < COUNT_OF(wrappers); i++) {
        if (!used[i]) continue;
        add_once(text, wrappers[i].name, wrappers[i].cuda);
        add_once(&c, wrappers[i].name, wrappers[i].c);
    }
    for (int columns = 8; columns <= WARPGROUP_COLUMNS_MAX; columns += 8)
        if (names(body, arena_print(arena, "wgmma_tf32_64x%dx8", columns)))
            add_warpgroup(text, arena, &c, columns);
    text_add(text, "#else\n%s#endif\n\n", c.at);
}

bool prelude_gpu_has(const char *name) {
    static const char *const head[] = {"KERNEL", "SELF", "ME", "self", "shared_memory"};
    for (int i = 0; i < COUNT_OF(head); i++)
        if (!strcmp(name, head[i])) return true;
    for (int i = 0; i < COUNT_OF(wrappers); i++)
        if (!strcmp(name, wrappers[i].name)) return true;
    return !strncmp(name, "simt_", 5) || !strncmp(name, "wgmma_", 6) || !strncmp(name, "Simt", 4) ||
           !strncmp(name, "SIMT_", 5);
}

bool text_needs_sm_90(const char *text) {
    static const char *const since[] = {"barrier_init", "barrier_fence", "barrier_expect",
                                        "barrier_wait", "copy_bulk",     "wgmma_descriptor"};
    for (int i = 0; i < COUNT_OF(since); i++)
        if (names(text, since[i])) return true;
    return false;
}
