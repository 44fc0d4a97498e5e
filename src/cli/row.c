/* row.c - programs by name and sizes, for bench to measure, explain to explain, roofline to draw.
 * In: "conv2d:1x64x56x56x64x3x1".  Out: a Row, and a Work that runs it.
 * Invariant: a kind of row is one line of row_kinds; what it computes is one function of tensors,
 * what it asks for is one function of its sizes.
 *   matmul:1024   =>   a function of two 1024 x 1024 matrices, 2.1 GFLOP                         */
#include "cli/row.h"

#include <stdlib.h>
#include <string.h>

// ---- what they ask for -------------------------------------------------------------------------
static RowShape shape2(int64_t a, int64_t b) { return (RowShape){{a, b, 1, 1}, 2}; }
static RowShape shape3(int64_t a, int64_t b, int64_t c) { return (RowShape){{a, b, c, 1}, 3}; }
static RowShape shape4(int64_t a, int64_t b, int64_t c, int64_t d) {
    return (RowShape){{a, b, c, d}, 4};
}

static RowPlan plan_matmul(const int64_t *size) {
    int64_t m = size[0], k = size[1], n = size[2];
    return (RowPlan){2, {shape2(m, k), shape2(k, n)}, shape2(m, n), 2.0 * (double)m * k * n};
}

static RowPlan plan_linear(const int64_t *size) {
    int64_t m = size[0], k = size[1], n = size[2];
    return (RowPlan){2, {shape2(m, k), shape2(n, k)}, shape2(m, n), 2.0 * (double)m * k * n};
}

// `inputs` matrices of the result's shape
static RowPlan plan_elements(const int64_t *size, int inputs) {
    RowShape shape = shape2(size[0], size[1]);
    return (RowPlan){inputs, {shape, shape, shape}, shape, 0};
}
static RowPlan plan_1(const int64_t *size) { return plan_elements(size, 1); }
static RowPlan plan_2(const int64_t *size) { return plan_elements(size, 2); }
static RowPlan plan_3(const int64_t *size) { return plan_elements(size, 3); }

static RowPlan plan_rms_norm(const int64_t *size) {
    RowShape shape = shape2(size[0], size[1]), weight = {{size[1], 1, 1, 1}, 1};
    return (RowPlan){2, {shape, weight}, shape, 0};
}

static RowPlan plan_layer_norm(const int64_t *size) {
    RowShape shape = shape2(size[0], size[1]), weight = {{size[1], 1, 1, 1}, 1};
    return (RowPlan){3, {shape, weight, weight}, shape, 0};
}

// N images of C channels, H x W; O filters of K x K that move by S; as much padding as keeps H and
// W at S = 1
static int64_t conv_size(int64_t size, int64_t filter, int64_t stride) {
    return (size + 2 * (filter / 2) - filter) / stride + 1;
}

static RowPlan plan_conv2d(const int64_t *size) {
    int64_t n = size[0], c = size[1], o = size[4], k = size[5], stride = size[6];
    int64_t h = conv_size(size[2], k, stride), w = conv_size(size[3], k, stride);
    return (RowPlan){2,
                     {shape4(n, c, size[2], size[3]), shape4(o, c, k, k)},
                     shape4(n, o, h, w),
                     2.0 * (double)n * o * h * w * (double)c * k * k};
}

// H heads of width D; Q queries, the last of K positions: each sees what is not after it
static RowPlan plan_attention(const int64_t *size) {
    int64_t heads = size[0], queries = size[1], width = size[2], keys = size[3];
    RowShape kv = shape3(heads, keys, width);
    double seen = (double)queries * (keys - queries) + 0.5 * (double)queries * (queries + 1);
    if (queries > keys) seen = -1;
    return (RowPlan){3,
                     {shape3(heads, queries, width), kv, kv},
                     shape3(heads, queries, width),
                     4.0 * (double)heads * width * seen};
}

// ---- what they compute -------------------------------------------------------------------------
static const int64_t *sizes_of(const void *work) { return ((const Work *)work)->row.size; }

static void matmul(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = pg_matmul(in[0], in[1]);
}

// As a model has them, weights are no input: what is compiled may rely on where they are.
static void linear(void *context, PgTensor **in, PgTensor **out) {
    const Work *work = context;
    out[0] = pg_linear(in[0], work->in[1], NULL);
}

static void softmax(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = pg_softmax(in[0], -1);
}

static void layernorm(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = pg_layer_norm(in[0], in[1], in[2], 1e-5);
}

static void rmsnorm(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = pg_rms_norm(in[0], in[1], 1e-5);
}

static void gelu(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = pg_gelu(in[0]);
}

static void swiglu(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = pg_mul(pg_silu(in[0]), in[1]);
}

static void chain(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = pg_relu(pg_add(pg_mul(in[0], in[1]), in[2]));
}

static void conv2d(void *context, PgTensor **in, PgTensor **out) {
    const Work *work = context;
    int filter = (int)sizes_of(context)[5], stride = (int)sizes_of(context)[6];
    PgConv conv = {.stride = {stride, stride}, .padding = {filter / 2, filter / 2}};
    out[0] = pg_conv2d(in[0], work->in[1], NULL, conv);
}

static void attention(void *context, PgTensor **in, PgTensor **out) {
    int64_t queries = sizes_of(context)[1], keys = sizes_of(context)[3];
    PgAttention how = {.causal = queries > 1, .offset = keys - queries};
    out[0] = pg_attention(in[0], in[1], in[2], how);
}

// ---- the kinds ---------------------------------------------------------------------------------
// clang-format off
const RowKind row_kinds[] = {
    {"matmul", "MxKxN", "(M, K) times (K, N)", "GFLOP/s", ROW_OF_TENSORS,
     plan_matmul, matmul, .square = true, .few = "512 1024 2048", .more = "256 4096"},
    {"linear", "MxKxN", "(M, K) times weights (N, K); linear:MxKxN:q4_1: packed ones", "GFLOP/s",
     ROW_OF_TENSORS, plan_linear, linear, .square = true, .weights = true, .packs = true,
     .few = "1x576x1536 16x576x1536 512x576x1536 1x576x49152 1x576x49152:q4_1",
     .more = "1x576x576 1x576x192 1x1536x576 16x576x576 16x576x192 16x1536x576 16x576x49152 "
             "128x576x576 128x576x192 128x576x1536 128x1536x576 128x576x49152 512x576x576 "
             "512x576x192 512x1536x576 512x576x49152 1x576x1536:q4_1 16x576x1536:q4_1 "
             "128x576x1536:q4_1 512x576x1536:q4_1 1x576x1536:q8_0 512x576x1536:q8_0 "
             "1x576x1536:bf16 512x576x1536:bf16 1x576x49152:q8_0 1x576x49152:bf16"},
    {"softmax", "RxC", "softmax of each row", "GB/s", ROW_OF_TENSORS, plan_1, softmax,
     .square = true, .few = "4096x4096", .more = "512x512"},
    {"layernorm", "RxC", "layer norm of each row, with weight and bias", "GB/s", ROW_OF_TENSORS,
     plan_layer_norm, layernorm, .square = true, .few = "4096x4096", .more = "512x768"},
    {"rmsnorm", "RxC", "RMS norm of each row, with a weight", "GB/s", ROW_OF_TENSORS,
     plan_rms_norm, rmsnorm, .square = true, .few = "4096x4096", .more = "512x576"},
    {"gelu", "RxC", "gelu (not the tanh one)", "GB/s", ROW_OF_TENSORS, plan_1, gelu,
     .square = true, .few = "4096x4096", .more = "512x3072"},
    {"swiglu", "RxC", "silu(x) y", "GB/s", ROW_OF_TENSORS, plan_2, swiglu,
     .square = true, .more = "4096x4096 512x1536"},
    {"chain", "RxC", "relu(x y + z)", "GB/s", ROW_OF_TENSORS, plan_3, chain,
     .square = true, .few = "4096x4096", .more = "512x1536"},
    {"conv2d", "NxCxHxWxOxKxS", "N images (C, H, W), O filters of K x K, stride S, padded by K/2",
     "GFLOP/s", ROW_OF_TENSORS, plan_conv2d, conv2d, .weights = true,
     .few = "1x3x224x224x64x7x2 1x64x56x56x64x3x1 1x256x14x14x256x3x1 2x320x64x64x320x3x1",
     .more = "1x256x56x56x64x1x1 1x256x56x56x512x1x2 1x128x28x28x128x3x1 1x512x7x7x512x3x1 "
             "2x640x32x32x640x3x1 2x1280x16x16x1280x3x1 1x512x64x64x512x3x1 1x128x256x256x128x3x1"},
    {"attention", "HxQxDxK", "H heads of width D, the last Q of K positions as queries, causal",
     "GFLOP/s", ROW_OF_TENSORS, plan_attention, attention,
     .few = "9x1x64x128 9x1x64x1024 9x1x64x8192 9x512x64x512",
     .more = "9x1x64x256 9x1x64x512 9x1x64x2048 9x1x64x4096 9x512x64x2048"},
    {"prefill", "N", "N tokens at once into an empty cache", "tok/s", ROW_PREFILL, .few = "512"},
    {"decode", "N", "N tokens one by one into an empty cache", "tok/s", ROW_DECODE, .few = "128"},
    {"cold", "N", "compiling for N tokens and one, nothing kept from before", "ms",
     ROW_COLD, .few = "512"},
    {"warm", "N", "the same, with everything in the cache of kernels", "ms", ROW_WARM,
     .few = "512"},
    {"memory", "N", "a process's memory at its peak, after N tokens and one", "MB", ROW_MEMORY,
     .few = "512"},
};
// clang-format on
const int row_kind_count = COUNT_OF(row_kinds);

bool row_less_is_better(const RowKind *kind) { return kind->what >= ROW_COLD; }

void rows_add(Text *to, bool of_models) {
    for (int i = 0; i < row_kind_count; i++) {
        const RowKind *kind = &row_kinds[i];
        if (kind->what != ROW_OF_TENSORS && !of_models) continue;
        text_add(to, "  %s:%s%*s %-7s  %s%s\n", kind->name, kind->sizes,
                 20 - (int)(strlen(kind->name) + strlen(kind->sizes)), "", kind->unit, kind->about,
                 kind->what == ROW_OF_TENSORS ? "" : " (-m MODEL)");
    }
}

static void add_named(Text *to, const RowKind *kind, const char *sizes, bool few) {
    while (sizes && *sizes) {
        size_t length = strcspn(sizes, " ");
        text_add(to,
                 "{\"row\": \"%s:%.*s\", \"unit\": \"%s\", \"model\": %s, \"less\": %s, "
                 "\"few\": %s}\n",
                 kind->name, (int)length, sizes, kind->unit,
                 kind->what == ROW_OF_TENSORS ? "false" : "true",
                 row_less_is_better(kind) ? "true" : "false", few ? "true" : "false");
        sizes += length + strspn(sizes + length, " ");
    }
}

void rows_add_json(Text *to) {
    for (int i = 0; i < row_kind_count; i++) {
        add_named(to, &row_kinds[i], row_kinds[i].few, true);
        add_named(to, &row_kinds[i], row_kinds[i].more, false);
    }
}

// ---- by name -----------------------------------------------------------------------------------
static const char *kind_name(const void *table, int i) { return ((const RowKind *)table)[i].name; }

static const RowKind *find_kind(const char *text, size_t length) {
    char name[32];
    for (int i = 0; i < row_kind_count; i++)
        if (strlen(row_kinds[i].name) == length && !strncmp(row_kinds[i].name, text, length))
            return &row_kinds[i];
    snprintf(name, sizeof name, "%.*s", (int)length, text);
    const char *near = closest_name(name, row_kinds, row_kind_count, kind_name);
    if (near)
        usage_wrong("no row %.60s; did you mean %s? Try: picograd bench --list", text, near);
    else
        usage_wrong("no row %.60s. Try: picograd bench --list", text);
    return NULL;
}

static int count_sizes(const RowKind *kind) {
    int count = 1;
    for (const char *at = kind->sizes; *at; at++) count += *at == 'x';
    return count;
}

// "16x576x1536" up to its end or a colon; returns how many sizes there were, 0 if one is wrong.
static int read_sizes(const char **text, int64_t largest, int64_t size[ROW_SIZES]) {
    const char *at = *text;
    for (int count = 0; count < ROW_SIZES;) {
        int64_t value = 0;
        if (*at < '0' || *at > '9') return 0;
        while (*at >= '0' && *at <= '9' && value <= largest) value = 10 * value + (*at++ - '0');
        if (value < 1 || value > largest) return 0;
        size[count++] = value;
        *text = at;
        if (*at == ':' || !*at) return count;
        if (*at++ != 'x') return 0;
    }
    return 0;
}

// The name of a type follows a second colon.
static int read_format(const char *text, const char *at, Row *row) {
    if (!*at) return 0;
    row->format = row->kind->packs ? gguf_format_named(at + 1) : NULL;
    if (!row->kind->packs)
        return usage_wrong("row %.60s: only linear takes a type of weights", text), -1;
    if (!row->format || !row->format->encode)
        return usage_wrong("row %.60s: no type %.20s; picograd convert --help lists them", text,
                           at + 1),
               -1;
    if (row->size[1] % row->format->length)
        return usage_wrong("row %.60s: rows of %s come in multiples of %d", text, row->format->name,
                           row->format->length),
               -1;
    return 0;
}

static double bytes_of_shape(const RowShape *shape, const GgufFormat *format) {
    double count = 1;
    for (int i = 0; i < shape->rank; i++) count *= (double)shape->size[i];
    return format ? count / format->length * format->bytes : 4 * count;
}

static double bytes_of_row(const Row *row) {
    double bytes = bytes_of_shape(&row->plan.out, NULL);
    for (int i = 0; i < row->plan.inputs; i++)
        bytes += bytes_of_shape(&row->plan.in[i], i + 1 == row->plan.inputs ? row->format : NULL);
    return bytes;
}

static int check_plan(const char *text, Row *row) {
    static const double most = 8e9;
    if (row->kind->what != ROW_OF_TENSORS) return 0;
    row->plan = row->kind->plan(row->size);
    double bytes = bytes_of_row(row);
    for (int i = 0; i < row->plan.out.rank; i++)
        if (row->plan.out.size[i] < 1)
            return usage_wrong("row %.60s: its result is empty", text), -1;
    if (row->plan.operations < 0)
        return usage_wrong("row %.60s: more queries than positions", text), -1;
    if (bytes > most)
        return usage_wrong("row %.60s: its tensors take %.0f GB, and %.0f are the most", text,
                           1e-9 * bytes, 1e-9 * most),
               -1;
    return 0;
}

int row_find(const char *text, Row *row) {
    size_t length = strcspn(text, ":");
    *row = (Row){.kind = find_kind(text, length)};
    if (!row->kind) return -1;
    const RowKind *kind = row->kind;
    int64_t largest = 1 << 20;
    const char *at = text + length + (text[length] == ':');
    int wanted = count_sizes(kind), count = read_sizes(&at, largest, row->size);
    if (count == 1 && kind->square)
        for (; count < wanted; count++) row->size[count] = row->size[0];
    if (count != wanted) {
        usage_wrong("row %.60s: give sizes from 1 to %lld as %s:%s, for example %s:%.*s", text,
                    (long long)largest, kind->name, kind->sizes, kind->name,
                    (int)strcspn(kind->few ? kind->few : kind->more, " "),
                    kind->few ? kind->few : kind->more);
        return -1;
    }
    return read_format(text, at, row) < 0 ? -1 : check_plan(text, row);
}

// ---- running -----------------------------------------------------------------------------------
static PgTensor *random_tensor(const RowShape *shape, int seed) {
    return pg_randn(pg_full(PG_I64, PG_SCALAR, seed), shape->rank, shape->size);
}

// In memory that never changes, as a model's.
static PgTensor *random_weights(const RowShape *shape, const GgufFormat *format, int seed) {
    int64_t count = 1;
    for (int i = 0; i < shape->rank; i++) count *= shape->size[i];
    size_t bytes = (size_t)(count / format->length * format->bytes);
    float *values = malloc((size_t)count * sizeof *values);
    uint8_t *blocks = malloc(bytes);
    PgTensor *tensor = NULL;
    if (values && blocks) {
        pg_to_host(random_tensor(shape, seed), values, (size_t)count * sizeof *values);
        gguf_encode(format, values, blocks, count);
        tensor = pg_from_blocks(format->name, shape->rank, shape->size, blocks, 0, NULL, NULL);
    }
    free(values);
    free(blocks);
    return tensor;
}

int work_open(Work *work, const Row *row) {
    *work = (Work){.row = *row, .bytes = bytes_of_row(row)};
    const RowPlan *plan = &row->plan;
    for (int i = 0; i < plan->inputs; i++) {
        bool weights = row->kind->weights && i + 1 == plan->inputs;
        const GgufFormat *format = row->format ? row->format : gguf_format_named("F32");
        pg_scope_begin();
        PgTensor *made = weights ? random_weights(&plan->in[i], format, i + 1)
                                 : random_tensor(&plan->in[i], i + 1);
        work->in[i] = made ? pg_keep(made) : NULL;
        pg_scope_end();
        if (!made) return fail("no memory, or no way to use weights of type %s", format->name);
    }
    work->function = pg_function(row->kind->body, work, plan->inputs - row->kind->weights, 1);
    return 0;
}

int work_run(const Work *work) {
    PgTensor *in[ROW_INPUTS], *out;
    memcpy(in, work->in, sizeof in);
    pg_scope_begin();
    bool recorded = pg_no_grad(true);
    int status = pg_call(work->function, in, &out);
    pg_no_grad(recorded);
    pg_scope_end();
    return status;
}

void work_close(Work *work) {
    if (work->function) pg_function_free(work->function);
    *work = (Work){0};
}
