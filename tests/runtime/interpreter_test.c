/* Kernels in unscheduled form, beside a walk of their trees one element at a time (kernel_eval.h),
 * on one thread and on three. */
#include "../schedule/kernel_run.h"

#include "runtime/runtime.h"

static void check_parsed(Arena *arena, const Kernel *kernel, const int64_t *var) {
    kernel_verify(kernel);
    void **wanted = run_memory(arena, kernel);
    kernel_eval(kernel, wanted, var);
    int before = thread_count();
    for (int threads = 1; threads <= 3; threads += 2) {
        void **got = run_memory(arena, kernel);
        thread_set_count(threads);
        interpret(kernel, got, var);
        run_compare(kernel, got, wanted, kernel->name);
    }
    thread_set_count(before);
}

static void check_kernel(const char *text, const int64_t *var) {
    Arena *arena = arena_new();
    check_parsed(arena, kernel_parse(arena, "test", text), var);
    arena_free(arena);
}

TEST(plain_loop_agrees) {
    float a[6 * 5], b[5], out[6 * 5];
    for (int i = 0; i < 30; i++) a[i] = (float)i;
    for (int j = 0; j < 5; j++) b[j] = (float)j / 4;
    Arena *arena = arena_new();
    Kernel *kernel = kernel_parse(arena, "test",
                                  "kernel plain in a f32[30] in b f32[5] out c f32[30]\n"
                                  "for i < 6 { for j < 5 { c[5*i + j] = (mul a[5*i + j] b[j]) } }");
    interpret(kernel, (void *[]){a, b, out}, NULL);
    for (int i = 0; i < 30; i++) CHECK(out[i] == a[i] * b[i % 5]);
    arena_free(arena);
}

TEST(elementwise) {
    check_kernel(
        "kernel rows in a f32[6300] in b f32[90] in c f32[70] out d f32[6300]\n"
        "for i < 70 { for j < 90 { d[90*i + j] = (fma a[90*i + j] b[j] (sqrt (mul c[i] c[i]))) } }",
        NULL);
    check_kernel("kernel long in a f32[100000] inout b f32[100000]\n"
                 "for i < 100000 { b[i] = (max (add a[i] b[i]) (recip 3)) }",
                 NULL);
    check_kernel("kernel transposed in a f32[3000] out b f32[3000]\n"
                 "for i < 30 { for j < 100 { b[100*i + j] = a[30*j + i] } }",
                 NULL);
    check_kernel(
        "kernel backwards in a f32[300] out b f32[300] for i < 300 { b[299 - i] = (mul a[i] 2) }",
        NULL);
    check_kernel("kernel one in a f32[2] out b f32[1]\nb[0] = (add a[0] a[1])", NULL);
    check_kernel(
        "kernel deep in a f32[1200] out b f32[1200]\n"
        "for i < 2 { for j < 3 { for k < 4 { for l < 50 {\n"
        "b[600*i + 200*j + 50*k + l] = (add a[600*i + 50*k + 200*j + l] (cast:f32 @i32(i + 7*j "
        "+ l))) } } } }",
        NULL);
}

TEST(all_dtypes) {
    static const char *const dtype[] = {"f32", "f16", "bf16", "i8", "i32",
                                        "i64", "u8",  "u16",  "u32"};
    for (int i = 0; i < COUNT_OF(dtype); i++) {
        Arena *arena = arena_new();
        const char *d = dtype[i];
        check_kernel(
            arena_print(
                arena,
                "kernel all in a %s[900] in b %s[30] out c %s[900] out less bool[900] out f "
                "f16[900]\n"
                "for i < 30 { for j < 30 { c[30*i + j] = (max (mul a[30*j + i] b[j]) (add b[i] "
                "b[j]))\n"
                "less[30*i + j] = (cmplt a[30*i + j] b[j])\n"
                "f[30*i + j] = (where (cmpne a[30*i + j] b[j]) (cast:f16 b[i]) 7:f16) } }",
                d, d, d),
            NULL);
        arena_free(arena);
    }
}

TEST(row_reductions) {
    check_kernel("kernel sums in a f32[30000] in b f32[100] out c f32[100]\n"
                 "for i < 100 { c[i] = (add b[i] (reduce add j<300 a[300*i + j])) }",
                 NULL);
    check_kernel("kernel short in a f32[3000] out c f32[1000]\n"
                 "for i < 1000 { c[i] = (reduce max j<3 a[3*i + j]) }",
                 NULL);
    check_kernel("kernel all in a f32[70000] out c f32[1]\nc[0] = (reduce add j<70000 a[j])", NULL);
    check_kernel(
        "kernel two in a f32[2000] out c f32[10] for i < 10 { c[i] = (reduce mul j<2 k<5 (add 1 "
        "(mul 0.125 a[5*i + k + 100*j]))) }",
        NULL);
    check_kernel(
        "kernel strided in a f32[60000] out c f32[60]\n"
        "for i < 60 { c[i] = (reduce add j<20 k<50 (mul a[1000*i + j + 20*k] a[50*j + k])) }",
        NULL);
    check_kernel(
        "kernel integers in a i32[9000] out c i32[90] out any bool[90] out all bool[90] for i < "
        "90 {\n"
        "c[i] = (reduce add j<100 a[100*i + j])\n"
        "any[i] = (reduce max j1<100 (cmplt a[100*i + j1] 3:i32))\n"
        "all[i] = (reduce mul j2<100 (cmplt 3:i32 a[100*i + j2])) }",
        NULL);
}

TEST(column_reductions) {
    check_kernel("kernel columns in a f32[30000] out c f32[100]\n"
                 "for i < 100 { c[i] = (reduce add j<300 a[i + 100*j]) }",
                 NULL);
    check_kernel(
        "kernel few in a f32[900] out c f32[3] for i < 3 { c[i] = (reduce max j<300 a[i + 3*j]) }",
        NULL);
    check_kernel(
        "kernel matmul in a f32[2000] in b f32[3000] out c f32[2400] for i < 40 { for j < 60 {\n"
        "c[60*i + j] = (reduce add k<50 (mul a[50*i + k] b[60*k + j])) } }",
        NULL);
    check_kernel(
        "kernel by_rows in a f32[2000] in b f32[3000] out c f32[2400] for i < 40 { for j < 60 {\n"
        "c[60*i + j] = (reduce add k<50 (mul a[50*i + k] b[50*j + k])) } }",
        NULL);
}

TEST(nested_reductions) {
    check_kernel(
        "kernel softmax in x f32[19610] out y f32[19610]\n"
        "for i < 370 { for j < 53 { y[53*i + j] = (mul (exp2 (add x[53*i + j] (mul -1 (reduce "
        "max k<53 x[53*i + k]))))\n"
        "(recip (reduce add l<53 (exp2 (add x[53*i + l] (mul -1 (reduce max k2<53 x[53*i + "
        "k2]))))))) } }",
        NULL);
    check_kernel(
        "kernel variance in x f32[5000] out y f32[50]\n"
        "for i < 50 { let mean = (mul 0.01 (reduce add k<100 x[100*i + k]))\n"
        "y[i] = (reduce add j<100 (mul (add x[100*i + j] (mul -1 mean)) (add x[100*i + j] (mul "
        "-1 mean)))) }",
        NULL);
    check_kernel(
        "kernel column_softmax in x f32[1200] out y f32[1200]\n"
        "for i < 30 { for j < 40 { y[40*i + j] = (add x[40*i + j] (mul -1 (reduce max k<30 "
        "x[40*k + j]))) } }",
        NULL);
    check_kernel(
        "kernel three in x f32[1000] out y f32[10]\n"
        "for i < 10 { y[i] = (reduce add j<10 (reduce max k<10 (add x[100*i + k] (reduce add "
        "l<10 x[100*j + 10*k + l])))) }",
        NULL);
}

TEST(gathers) {
    check_kernel(
        "kernel embedding in table f32[640] in ids i32[40] out y f32[2560]\n"
        "for i < 40 { for d < 64 { let t in 0..9 = (cast:i64 (mod ids[i] 10:i32))\n y[64*i + d] "
        "= table[64*t + d] } }",
        NULL);
    check_kernel(
        "kernel inner in table f32[640] in ids i64[6400] out y f32[6400]\n"
        "for i < 10 { for d < 640 { let t in 0..63 = (mod ids[640*i + d] 64:i64)\n y[640*i + d] "
        "= table[64*i + t] } }",
        NULL);
    check_kernel(
        "kernel guarded in table f32[640] in ids i64[50] out y f32[50]\n"
        "for i < 50 { let t in 0..99 = ids[i]\n y[i] = table[t if (cmplt ids[i] 100:i64)] }",
        NULL);
}

TEST(guarded_loads) {
    check_kernel("kernel padded in a f32[200] out y f32[212] for i < 212 {\n"
                 "y[i] = a[i - 6 if (and (cmplt 5:i64 @i64(i)) (cmplt @i64(i) 206:i64))] }",
                 NULL);
    check_kernel(
        "kernel convolution in a f32[200] in w f32[15] out y f32[1000] for o < 5 { for i < 200 {\n"
        "y[200*o + i] = (reduce add k<3 (mul w[3*o + k]\n"
        "a[i + k - 1 if (and (cmplt 0:i64 @i64(i + k)) (cmplt @i64(i + k) 201:i64))])) } }",
        NULL);
    check_kernel(
        "kernel scattered in a f32[900] in m bool[900] out y f32[900] for i < 30 { for j < 30 {\n"
        "y[30*i + j] = a[i + 30*j if m[30*i + j]] } }",
        NULL);
    check_kernel(
        "kernel constant in a f32[5] in m bool[40] out y f32[400] for i < 40 { for j < 10 {\n"
        "y[10*i + j] = a[3 if m[i]] } }",
        NULL);
}

TEST(conditional_stores) {
    check_kernel("kernel some in a f32[900] inout y f32[900] for i < 900 {\n"
                 "y[i] = a[i] when (cmplt a[i] 0) }",
                 NULL);
    check_kernel("kernel halves in a f32[900] inout y f32[900] for i < 30 { for j < 30 {\n"
                 "y[i + 30*j] = a[30*i + j] when (cmplt @i64(j) @i64(i)) } }",
                 NULL);
}

TEST(divided_indices) {
    check_kernel("kernel blocks in a f32[3000] out y f32[3000] for i < 3000 {\n"
                 "y[i] = (add a[50*(i%60) + i/60] (cast:f32 @i32((i + 7)/13))) }",
                 NULL);
    check_kernel("kernel images in a f32[600] out y f32[1000] for i < 10 { for j < 100 {\n"
                 "y[100*i + j] = (reduce add k<6 a[60*((10*i + j/10)%10) + 6*(j%10) + k]) } }",
                 NULL);
}

TEST(packed_blocks) {
    check_kernel(
        "kernel nibbles in w u8[960] in w16 u16[480] out y f32[1536] for i < 24 { for j < 64 {\n"
        "let code = (and (shr w[40*i + 20*(j/32) + j%16 + 4] (cast:u8 @i32(4*(j%32/16)))) 15:u8)\n"
        "y[64*i + j] = (fma (cast:f32 (bitcast:f16 w16[20*i + 10*(j/32)])) (cast:f32 code)\n"
        "(cast:f32 (bitcast:f16 w16[20*i + 10*(j/32) + 1]))) } }",
        NULL);
    check_kernel(
        "kernel product in w u8[960] in w16 u16[480] in x f32[64] out y f32[24] for i < 24 {\n"
        "y[i] = (reduce add g<2 h<2 b<16 (mul x[32*g + 16*h + b] (mul (cast:f32 (bitcast:f16 "
        "w16[20*i + 10*g]))\n"
        "(cast:f32 (and (shr w[40*i + 20*g + b + 4] (cast:u8 @i32(4*h))) 15:u8))))) }",
        NULL);
}

TEST(sizes_that_change) {
    const char *text =
        "kernel attention var keys 0..64 in k f32[512] in q f32[32] out y f32[256] for h < 4 { "
        "for i < keys {\n"
        "y[64*h + i] = (add (reduce add d<8 (mul q[8*h + d] k[8*i + d])) (reduce max j<keys "
        "k[j])) } }";
    for (int64_t keys = 0; keys <= 64; keys += 16) check_kernel(text, &keys);
    int64_t none = 0;
    check_kernel(
        "kernel empty var n 0..9 in a f32[9] out y f32[300] for i < 100 {\n"
        "y[3*i] = (reduce add j<n a[j]) y[3*i + 1] = (reduce max k<n a[k]) y[3*i + 2] = (reduce "
        "mul l<n (add a[l] (cast:f32 @i32(i)))) }",
        &none);
}

TEST(statements_in_order) {
    check_kernel(
        "kernel scan in a f32[9000] out y f32[9000] register s f32[1] for i < 90 { init s[0] = "
        "0 for j < 100 {\n"
        "update s[0] = (add s[0] a[100*i + j]) y[100*i + j] = s[0] } }",
        NULL);
    check_kernel(
        "kernel scatter in x f32[64] in ids i64[100] in v f32[400] inout y f32[64]\n"
        "for i < 64 { init y[i] = x[i] } for j < 100 { for d < 4 {\n"
        "let t in 0..15 = ids[j]\n"
        "update y[4*t + d] = (add y[4*t + d if (cmplt ids[j] 16:i64)] v[4*j + d]) when (cmplt "
        "ids[j] 16:i64) } }",
        NULL);
    check_kernel(
        "kernel outputs in a f32[4000] out m f32[40] out y f32[4000] for i < 40 {\n"
        "m[i] = (reduce max k<100 a[100*i + k]) for j < 100 { y[100*i + j] = (add a[100*i + j] "
        "m[i]) } }",
        NULL);
    check_kernel(
        "kernel twice in a f32[300] inout y f32[300] for i < 300 { y[i] = a[i] } for j < 300 { "
        "y[j] = (add y[j] (mul y[j] y[j])) }",
        NULL);
}

TEST(kernels_written_by_hand) {
    static const char *const names[] = {"matmul", "rmsnorm_matmul", "q4_1_matvec", "attention"};
    int64_t keys = 37;
    for (int i = 0; i < COUNT_OF(names); i++) {
        Arena *arena = arena_new();
        char *text =
            file_read(arena, arena_print(arena, "tests/kernels/%s.kernel", names[i]), NULL);
        CHECK(text != NULL);
        check_kernel(text, &keys);
        arena_free(arena);
    }
}

// y[i] = sum over k of table[4 * ids[10*i + k] + i%4]: the text has no place for a `let` in a
// REDUCE.
TEST(gather_in_a_reduction) {
    Arena *arena = arena_new();
    Kernel *kernel = kernel_new(arena, "summed");
    IndexTable *indices = graph_indices(kernel->graph);
    int32_t table = kernel_buffer(kernel, "table", DT_F32, SPACE_PARAM, 64, false);
    int32_t ids = kernel_buffer(kernel, "ids", DT_I64, SPACE_PARAM, 500, false);
    int32_t y = kernel_buffer(kernel, "y", DT_F32, SPACE_PARAM, 50, true);
    int32_t i = kernel_loop(kernel, "i", 50), k = kernel_loop(kernel, "k", 10);
    Index row = kernel_loop_index(kernel, i),
          place = index_add(indices, index_scale(indices, row, 10), kernel_loop_index(kernel, k));
    Id few = node_const_int(kernel->graph, DT_I64, (Shape){0}, 16);
    Id id = node_binary(kernel->graph, OP_MOD, kernel_load(kernel, ids, place, -1), few);
    Index from = index_scale(indices, index_atom(indices, ATOM_VALUE, id, 0, 15), 4);
    Id load = kernel_load(kernel, table, index_add(indices, from, index_mod(indices, row, 4)), -1);
    Id sum = kernel_reduce(kernel, OP_ADD, load, 1, &k);
    kernel->body = statement_loop(kernel, i, statement_store(kernel, ROLE_STORE, y, row, sum));
    check_parsed(arena, kernel, NULL);
    arena_free(arena);
}

// ---- random expressions ------------------------------------------------------------------------

typedef struct {
    Text text;
    uint64_t seed;
    int loops;  // in scope
    int64_t extent[8];
    const char *name[8];
    int made, reductions;  // names given; how many REDUCEs are around
} Random;

static int64_t below(Random *random, int64_t limit) { return run_random(&random->seed) % limit; }

// An index into 4096 elements over some loops in scope, with quotients and remainders at times.
static void random_index(Random *random) {
    int64_t left = 4095, start = below(random, 64);
    text_add(&random->text, "%d", (int)start);
    left -= start;
    for (int i = 0; i < random->loops; i++) {
        int64_t by = 1 + below(random, 3) * below(random, 20), last = random->extent[i] - 1;
        if (!below(random, 3) || by * last > left) continue;
        int kind = (int)below(random, 8);
        if (kind == 0) text_add(&random->text, " + %d*((%s + 1)/3)", (int)by, random->name[i]);
        if (kind == 1) text_add(&random->text, " + %d*(%s%%4)", (int)by, random->name[i]);
        if (kind > 1) text_add(&random->text, " + %d*%s", (int)by, random->name[i]);
        left -= by * (last + 1);
        if (left < 0) break;
    }
}

static void random_value(Random *random, int depth);

static void random_reduce(Random *random, int depth) {
    static const char *const folds[] = {"add", "max"};
    int loops = 1 + (below(random, 4) == 0), before = random->loops;
    text_add(&random->text, "(reduce %s", folds[below(random, 2)]);
    for (int i = 0; i < loops; i++) {
        random->name[random->loops] = arena_print(random->text.arena, "k%d", random->made++);
        random->extent[random->loops] =
            below(random, 5) ? 1 + below(random, 4) : 9 + below(random, 30);
        text_add(&random->text, " %s<%d", random->name[random->loops],
                 (int)random->extent[random->loops]);
        random->loops++;
    }
    text_add(&random->text, " ");
    random->reductions++;
    random_value(random, depth - 1);
    random->reductions--;
    random->loops = before;
    text_add(&random->text, ")");
}

static void random_value(Random *random, int depth) {
    static const char *const forms[] = {"(add ", "(max ", "(mul 0.25 (add ", "(where (cmplt "};
    int64_t choice = below(random, 10);
    if (depth == 0 || choice == 0) {
        text_add(&random->text, "%s[", below(random, 2) ? "a" : "b");
        random_index(random);
        if (!below(random, 4)) {
            text_add(&random->text, " if (cmplt @i64(");
            random_index(random);
            text_add(&random->text, ") 300:i64)");
        }
        text_add(&random->text, "]");
        return;
    }
    if (choice <= 3 && random->reductions < 2 && random->loops < 7) {
        random_reduce(random, depth);
        return;
    }
    int form = (int)below(random, COUNT_OF(forms));
    text_add(&random->text, "%s", forms[form]);
    for (int i = 0; i < (form == 3 ? 4 : 2); i++) {
        text_add(&random->text, " ");
        random_value(random, depth - 1);
        if (form == 3 && i == 1) text_add(&random->text, ")");
    }
    text_add(&random->text, form == 2 ? "))" : ")");
}

static void check_random(uint64_t seed) {
    static const char *const names[] = {"i", "j", "l"};
    Arena *arena = arena_new();
    Random random = {.text = text_new(arena), .seed = seed, .loops = 1 + (int)(seed % 3)};
    int64_t size = 1;
    for (int i = 0; i < random.loops; i++) {
        random.name[i] = names[i];
        random.extent[i] =
            1 + below(&random, i == random.loops - 1 ? 900 / random.loops / random.loops : 5);
        size *= random.extent[i];
    }
    text_add(&random.text, "kernel random%d in a f32[4096] in b f32[4096] out y f32[%d]\n",
             (int)seed, (int)size);
    for (int i = 0; i < random.loops; i++)
        text_add(&random.text, "for %s < %d { ", names[i], (int)random.extent[i]);
    text_add(&random.text, "y[0");
    for (int i = 0; i < random.loops; i++) {
        size /= random.extent[i];
        text_add(&random.text, " + %d*%s", (int)size, names[i]);
    }
    text_add(&random.text, "] = ");
    random_value(&random, 3);
    for (int i = 0; i < random.loops; i++) text_add(&random.text, " }");
    check_kernel(random.text.at, NULL);
    arena_free(arena);
}

TEST(random_expressions) {
    for (uint64_t seed = 1; seed <= 60; seed++) check_random(seed);
}
