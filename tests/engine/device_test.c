/* device_test.c - calls on each device: simt, and CUDA with a stand-in for a GPU, whose driver says
 * what it was asked for: copies, launches, graphs. */
#include "../runtime/stand_in.h"
#include "../tensor/values.h"
#include "engine/compiled.h"

#include <string.h>

enum { MB = 1 << 20, N = 300 };

static StandInCounts *counts, before;

static void use_gpu(void) {
    counts = stand_in(100 * MB);
    if (pg_set_device("cuda")) fatal("%s", pg_error());
    pg_set_mode(PG_GRAPH);
}

static void begin_count(void) { before = *counts; }

// Since begin_count: kernels launched alone, graphs made, launched and changed in so many places.
static void check_work(int64_t launches, int64_t graphs, int64_t graph_launches, int64_t changes) {
    CHECK_INT(counts->launches - before.launches, launches);
    CHECK_INT(counts->graphs - before.graphs, graphs);
    CHECK_INT(counts->graph_launches - before.graph_launches, graph_launches);
    CHECK_INT(counts->changes - before.changes, changes);
}

static void check_copied(int64_t there, int64_t here) {
    CHECK_INT(counts->bytes_there - before.bytes_there, there);
    CHECK_INT(counts->bytes_here - before.bytes_here, here);
}

static PgTensor *numbers(int64_t count) {
    return pg_keep(pg_add(pg_arange(PG_F32, 0, count, 1), pg_scalar(1)));
}

// ---- simt --------------------------------------------------------------------------------------

static void twice(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = pg_add(in[0], in[0]);
}

TEST(a_function_is_traced_once_for_each_device) {
    PgTensor *x = VECTOR(1, 2, 3), *out;
    PgFunction *function = pg_function(twice, NULL, 1, 1);
    if (pg_mode() != PG_GRAPH) SKIP("there is no C compiler");
    for (int round = 0; round < 2; round++) {
        CHECK_INT(pg_set_device("cpu"), 0);
        CHECK_INT(pg_call(function, &x, &out), 0);
        CHECK_VALUES(out, 2, 4, 6);
        CHECK_INT(pg_set_device("simt"), 0);
        CHECK_INT(pg_call(function, &x, &out), 0);
        CHECK_VALUES(out, 2, 4, 6);
    }
    CHECK_INT(pg_function_traces(function), 2);
    CHECK_FAIL(pg_set_device("gpu"), "there is no device gpu. Hint: cpu, simt, cuda or cuda:N");
    CHECK_TEXT(device()->name, "simt");
    CHECK_INT(pg_set_device("cpu"), 0);
    pg_function_free(function);
}

// ---- CUDA: a step ------------------------------------------------------------------------------

// Two kernels, of which the first does not know the position.
static void step(void *weight, PgTensor **in, PgTensor **out) {
    int64_t at = pg_var("at", 0, N - 1);
    PgTensor *sum = pg_contiguous(pg_sum(pg_mul(in[0], weight), PG_ALL_AXES, false));
    out[0] = pg_add(pg_mul(in[0], sum), pg_slice(weight, 0, at, pg_size_add(at, 1), 1));
}

static void check_step(PgFunction *function, PgTensor *x, int64_t at) {
    PgTensor *out;
    pg_bind("at", at);
    pg_scope_begin();
    CHECK_INT(pg_call(function, &x, &out), 0);
    double sum = (double)N * (N + 1) * (2 * N + 1) / 6;
    float got[N];
    pg_to_host(out, got, sizeof got);
    for (int i = 0; i < N; i++)
        CHECK_NEAR((double)got[i], (i + 1) * sum + (double)at + 1, 1e-6 * (i + 1) * sum);
    pg_scope_end();
}

TEST(a_replayed_step_is_one_launch) {
    use_gpu();
    pg_scope_begin();
    PgTensor *x = numbers(N), *weight = numbers(N);
    PgFunction *function = pg_function(step, weight, 1, 1);
    begin_count();
    check_step(function, x, 3);
    int64_t kernels = counts->launches - before.launches;
    CHECK(kernels >= 2);
    check_copied(0, N * 4);
    begin_count();
    check_step(function, x, 3);
    check_work(0, 1, 1, 0);
    begin_count();
    for (int i = 0; i < 5; i++) check_step(function, x, 3);
    check_work(0, 0, 5, 0);
    check_copied(0, 5 * N * 4);
    // Another position changes the kernels that read it.
    begin_count();
    check_step(function, x, 7);
    int64_t changed = counts->changes - before.changes;
    CHECK(changed >= 1 && changed < kernels);
    check_work(0, 0, 1, changed);
    begin_count();
    for (int64_t i = 0; i < 5; i++) check_step(function, x, i);
    check_work(0, 0, 5, 5 * changed);
    // Other memory, too.
    PgTensor *y = numbers(N);
    begin_count();
    check_step(function, y, 4);
    CHECK(counts->changes - before.changes >= 1);
    check_work(0, 0, 1, counts->changes - before.changes);
    pg_function_free(function);
    pg_scope_end();
}

// What is written here goes there once, and what is read there comes once.
TEST(weights_are_copied_once) {
    use_gpu();
    static float data[N + 16];
    for (int i = 0; i < N; i++) data[i] = (float)(i + 1);
    pg_scope_begin();
    PgTensor *weight = pg_wrap(PG_F32, PG_SHAPE(N), data, 64, NULL, NULL);
    PgTensor *x = pg_from_data(PG_F32, PG_SHAPE(N), data);
    PgFunction *function = pg_function(step, weight, 1, 1);
    begin_count();
    for (int64_t i = 0; i < 4; i++) check_step(function, x, i);
    check_copied(2 * N * 4, 4 * N * 4);
    pg_function_free(function);
    pg_scope_end();
}

// A state that a function assigns to, read and written here between its calls and on the CPU.
static void count_up(void *state, PgTensor **in, PgTensor **out) {
    (void)in;
    pg_assign(state, pg_add(state, pg_scalar(1)));
    out[0] = pg_sum(state, PG_ALL_AXES, false);
}

TEST(state_goes_where_it_is_used) {
    use_gpu();
    pg_scope_begin();
    PgTensor *state = pg_keep(pg_contiguous(pg_zeros(PG_F32, PG_SHAPE(4)))), *out;
    PgFunction *function = pg_function(count_up, state, 0, 1);
    for (int i = 0; i < 12; i++) {
        CHECK_INT(pg_set_device(i % 6 < 3 ? "cuda" : i % 6 == 3 ? "simt" : "cpu"), 0);
        CHECK_INT(pg_call(function, NULL, &out), 0);
        CHECK(pg_item(out) == 4 * (i + 1));
        if (i == 7) pg_assign(state, pg_add(state, pg_scalar(0)));
        if (i % 5 == 2) CHECK_VALUES(state, i + 1, i + 1, i + 1, i + 1);
    }
    CHECK_INT(pg_function_traces(function), 3);
    pg_function_free(function);
    pg_scope_end();
}

// ---- CUDA: what is not a step ------------------------------------------------------------------

static void tell(void *context, int kernels, const KernelTime *kernel) {
    double *seconds = context;
    for (int i = 0; i < kernels; i++) *seconds += kernel[i].seconds;
}

// The stand-in's clock counts what it does: a millisecond each.
TEST(kernels_are_timed_by_events) {
    use_gpu();
    pg_scope_begin();
    PgTensor *x = numbers(N), *weight = numbers(N);
    double seconds = 0;
    engine_watch(tell, &seconds);
    PgFunction *function = pg_function(step, weight, 1, 1);
    begin_count();
    check_step(function, x, 1);
    engine_watch(NULL, NULL);
    int64_t kernels = counts->launches - before.launches;
    check_work(kernels, 0, 0, 0);
    CHECK_NEAR(seconds, 0.002 * (double)kernels, 1e-6);  // its kernel, and the event behind it
    pg_function_free(function);
    pg_scope_end();
}

static void grow(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = pg_add(pg_reshape(in[0], PG_SHAPE(-1, 1)), in[1]);
}

TEST(no_room_on_a_gpu_is_survived) {
    use_gpu();
    pg_scope_begin();
    PgTensor *in[] = {numbers(8 << 10), numbers(8 << 10)}, *small[] = {numbers(2), numbers(3)};
    PgFunction *function = pg_function(grow, NULL, 2, 1);
    PgTensor *out;
    int64_t live = cuda_live_bytes(device()->gpu), here = buffer_live_bytes();
    for (int i = 0; i < 3; i++)
        CHECK_FAIL(pg_call(function, in, &out), "out of memory on cuda:0: 256.0 MB asked for, ");
    CHECK_INT(cuda_live_bytes(device()->gpu), live);
    CHECK_INT(buffer_live_bytes(), here);
    CHECK_INT(pg_call(function, small, &out), 0);
    CHECK_VALUES(out, 2, 3, 4, 3, 4, 5);
    CHECK_FATAL_TEXT(pg_add(pg_reshape(in[0], PG_SHAPE(-1, 1)), in[1]),
                     "cuda:0: out of memory on cuda:0: 256.0 MB asked for, ");
    CHECK_VALUES(pg_add(small[0], pg_scalar(1)), 2, 3);
    pg_function_free(function);
    pg_scope_end();
}

static void shorten(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    int64_t count = pg_var("count", 0, 3);
    out[0] = pg_add(pg_slice(in[0], 0, 0, count, 1), pg_scalar(1));
    out[1] = pg_sum(in[0], PG_ALL_AXES, false);
}

// A launch of no blocks is left out of the graph, and comes back.
TEST(sizes_may_be_zero) {
    use_gpu();
    pg_scope_begin();
    PgTensor *x = numbers(3), *out[2];
    PgFunction *function = pg_function(shorten, NULL, 1, 2);
    static const int64_t sizes[] = {0, 0, 0, 2, 0, 3, 3};
    for (int i = 0; i < COUNT_OF(sizes); i++) {
        pg_bind("count", sizes[i]);
        CHECK_INT(pg_call(function, &x, out), 0);
        CHECK_INT(pg_count(out[0]), sizes[i]);
        CHECK(pg_item(out[1]) == 6);
        if (sizes[i] == 3) CHECK_VALUES(out[0], 2, 3, 4);
    }
    pg_function_free(function);
    pg_scope_end();
}

// ---- weights that are laid out -----------------------------------------------------------------

static const char reverse[] =
    "kernel once\nin a f32[300]\nout b f32[300]\nfor i < 300 {\n  b[i] = a[299 - i]\n}\n";

static void check_laid_out(const char *name) {
    Arena *arena = arena_new();
    CHECK_INT(device_set(name), 0);
    Compiled compiled = {.arena = arena,
                         .kept = arena,
                         .device = device(),
                         .backend = device()->kind == DEVICE_CUDA ? &backend_cuda : &backend_simt};
    Unit *unit = list_add(arena, &compiled.units);
    *unit = (Unit){.arena = arena, .kernel = kernel_parse(arena, "once", reverse), .text = reverse};
    ScheduleTarget row = unit_target();
    const char *candidate[CANDIDATES_MAX];
    unit_explicit(unit->kernel);
    schedule_candidates(arena, unit->kernel, &row, candidate);
    schedule_apply(unit->kernel, candidate[0]);
    unit->program = lower(arena, unit->kernel, &(LowerOptions){.gpu = true});
    unit->source = render_cuda(arena, unit->program, unit->text, unit->symbol);
    CHECK_INT(compiled.backend->compile(&compiled), 0);
    int64_t from = buffer_new(N * sizeof(float));
    for (int i = 0; i < N; i++) ((float *)buffer_data(from))[i] = (float)i;
    Once once = {.sources = 1, .dtype = DT_F32, .elements = N};
    int64_t live = once_live_bytes(), made = once_buffer(&compiled, unit, &once, &from);
    CHECK(made > 0 && !buffer_is_there(from));
    CHECK_INT(once_buffer(&compiled, unit, &once, &from), made);
    CHECK_INT(once_live_bytes() - live, N * (int64_t)sizeof(float));
    once_fill();
    for (int i = 0; i < N; i++) CHECK(((const float *)buffer_read(made))[i] == (float)(N - 1 - i));
    buffer_release(made);
    buffer_release(made);
    once_sweep();
    CHECK_INT(once_live_bytes() - live, 0);
    buffer_release(from);
    arena_free(arena);
}

TEST(weights_are_laid_out_on_a_gpu) {
    use_gpu();
    check_laid_out("simt");
    check_laid_out("cuda");
}

static PgTensor *matrix;
static void times_matrix(void *transposed, PgTensor **in, PgTensor **out) {
    out[0] = pg_matmul(in[0], transposed ? pg_transpose(matrix, 0, 1) : matrix);
}

// Values of few bits are exact in tf32, and so are their products and sums here.
static void check_matrix(bool transposed, int rows, int columns, int depth) {
    static float x[80 * 100], w[80 * 100 + 16], got[80 * 80];
    for (int i = 0; i < rows * depth; i++) x[i] = (float)(i % 13) - 6;
    for (int i = 0; i < columns * depth; i++) w[i] = (float)(i % 7) - 3;
    pg_scope_begin();
    int64_t sizes[] = {transposed ? columns : depth, transposed ? depth : columns};
    matrix = pg_wrap(PG_F32, 2, sizes, w, 64, NULL, NULL);
    PgTensor *in = pg_from_data(PG_F32, PG_SHAPE(rows, depth), x), *out;
    PgFunction *function = pg_function(times_matrix, transposed ? w : NULL, 1, 1);
    int64_t live = once_live_bytes();
    CHECK_INT(pg_call(function, &in, &out), 0);
    CHECK_INT(once_live_bytes() - live, round_up(columns, 64) * round_up(depth, 32) * 4);
    pg_to_host(out, got, sizeof *got * (size_t)(rows * columns));
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) {
            float sum = 0;
            for (int k = 0; k < depth; k++)
                sum += x[i * depth + k] * w[transposed ? j * depth + k : k * columns + j];
            CHECK(got[i * columns + j] == sum);
        }
    pg_function_free(function);
    pg_scope_end();
}

TEST(weights_of_products_are_laid_out_for_tensor_cores) {
    CHECK_INT(pg_set_device("simt"), 0);
    pg_set_mode(PG_GRAPH);
    engine_set_tf32(true);
    for (int transposed = 0; transposed < 2; transposed++) {
        check_matrix(transposed, 64, 64, 64);
        check_matrix(transposed, 70, 45, 100);
        check_matrix(transposed, 33, 79, 37);
    }
    engine_set_tf32(false);
    CHECK_INT(pg_set_device("cpu"), 0);
}
