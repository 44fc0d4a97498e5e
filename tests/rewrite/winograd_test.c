/* winograd_test.c - convolutions through transformed tiles, beside sums in f64. */
#include "engine/engine.h"
#include "rewrite/rewrite.h"
#include "../tensor/values.h"

#include <stdlib.h>
#include <string.h>

// ---- which are rewritten -----------------------------------------------------------------------

// As conv2d writes it; the number of nodes afterwards, 0 if it stays as it is.
static int32_t nodes_after(int64_t n, int64_t c, int64_t h, int64_t w, int64_t o, bool always) {
    Arena *arena = arena_new();
    Graph *graph = graph_new(arena);
    Size by[4] = {0, 0, 1, 1};
    Shape all = shape_of(8, n, (Size)1, o, c, h, w, (Size)3, (Size)3);
    Id image = node_pad(graph, node_param(graph, DT_F32, shape_of(4, n, c, h, w), 0), by, by);
    image = node_window(graph, node_window(graph, image, 2, 3, 1, 1), 3, 3, 1, 1);
    image = node_reshape(graph, image, shape_of(8, n, (Size)1, (Size)1, c, h, w, (Size)3, (Size)3));
    Id filters = node_param(graph, DT_F32, shape_of(4, o, c, (Size)3, (Size)3), 1);
    filters = node_reshape(graph, filters,
                           shape_of(8, (Size)1, (Size)1, o, c, (Size)1, (Size)1, (Size)3, (Size)3));
    Id product = node_binary(graph, OP_MUL, node_expand(graph, image, all),
                             node_expand(graph, filters, all));
    Id out = node_reduce(graph, OP_ADD, product, 1 << 3 | 1 << 6 | 1 << 7);
    const int64_t buffer[WINOGRAD_MATRICES] = {1, 2, 3};
    Graph *after = winograd(arena, graph, 1, &out, buffer, always);
    int32_t nodes = after ? graph_count(after) : 0;
    if (after) {
        graph_verify(after, 1, &out);
        const char *text = graph_print(arena, after, 1, &out);
        CHECK(strstr(text, "window{2, 6, 4, 1}") && strstr(text, "window{3, 6, 4, 1}"));
        CHECK(shape_equal(node_shape(after, out), node_shape(graph, graph_count(graph) - 1)));
    }
    arena_free(arena);
    return nodes;
}

TEST(winograd_is_for_many_channels_and_places) {
    CHECK(nodes_after(2, 320, 64, 64, 320, false) > 0);
    CHECK(nodes_after(1, 640, 32, 32, 640, false) > 0);
    CHECK(nodes_after(4, 256, 28, 28, 256, false) > 0);
    CHECK_INT(nodes_after(1, 16, 64, 64, 16, false), 0);    // few channels: transforms cost more
    CHECK_INT(nodes_after(1, 3, 224, 224, 64, false), 0);   // the same
    CHECK_INT(nodes_after(1, 256, 14, 14, 256, false), 0);  // few places: filters cost more
    CHECK_INT(nodes_after(1, 512, 7, 7, 512, false), 0);
    CHECK_INT(nodes_after(1, 64, 56, 56, 64, false), 0);     // as fast as before, no faster
    CHECK_INT(nodes_after(16, 320, 64, 64, 320, false), 0);  // 500 MB of tiles
    CHECK(nodes_after(1, 16, 64, 64, 16, true) > 0);
}

// ---- what they compute -------------------------------------------------------------------------

typedef struct {
    int64_t images, channels, height, width, out;
    int padding, stride, groups;
} Sizes;
static int64_t image_count(const Sizes *of) {
    return of->images * of->channels * of->height * of->width;
}
static int64_t filter_count(const Sizes *of) { return of->out * (of->channels / of->groups) * 9; }
static int64_t side(const Sizes *of, int64_t size) {
    return (size + 2 * of->padding - 3) / of->stride + 1;
}

static void convolve(void *context, PgTensor **in, PgTensor **out) {
    const Sizes *of = context;
    PgConv conv = {.stride = {of->stride, of->stride},
                   .padding = {of->padding, of->padding},
                   .groups = of->groups};
    out[0] = pg_relu(pg_conv2d(in[0], in[1], in[2], conv));
}

static float *noise(int64_t count) {
    float *at = malloc(sizeof *at * (size_t)count);
    uint64_t state = 7;
    for (int64_t i = 0; i < count; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        at[i] = (float)(state >> 40) / (1 << 24) - 0.5f;
    }
    return at;
}

// In graph mode with the switch set; the result's numbers, and how many kernels made it.
static float *computed(const Sizes *of, const float *image, const float *filters, const char *how,
                       int *kernels) {
    setenv("PG_WINOGRAD", how, 1);
    pg_scope_begin();
    int64_t h = side(of, of->height), w = side(of, of->width), each = of->channels / of->groups;
    size_t bytes = sizeof(float) * (size_t)(of->images * of->out * h * w);
    float *numbers = malloc(bytes);
    PgTensor *in[] = {
        pg_from_data(PG_F32, PG_SHAPE(of->images, of->channels, of->height, of->width), image),
        pg_from_data(PG_F32, PG_SHAPE(of->out, each, 3, 3), filters),
        pg_full(PG_F32, PG_SHAPE(of->out), 0.25)};
    PgTensor *out;
    PgFunction *function = pg_function(convolve, (void *)(uintptr_t)of, 3, 1);
    CHECK_INT(pg_call(function, in, &out), 0);
    *kernels = engine_kernels();
    pg_to_host(out, numbers, bytes);
    pg_function_free(function);
    pg_scope_end();
    unsetenv("PG_WINOGRAD");
    return numbers;
}

// One output before its bias; of magnitudes if so asked.
static double summed(const Sizes *of, const float *image, const float *filters, int64_t n,
                     int64_t o, int64_t y, int64_t x, bool magnitude) {
    double sum = 0;
    for (int64_t c = 0; c < of->channels; c++)
        for (int64_t v = 0; v < 9; v++) {
            int64_t down = y + v / 3 - of->padding, across = x + v % 3 - of->padding;
            if (down < 0 || down >= of->height || across < 0 || across >= of->width) continue;
            double product =
                (double)image[((n * of->channels + c) * of->height + down) * of->width + across] *
                filters[(o * of->channels + c) * 9 + v];
            sum += magnitude ? fabs(product) : product;
        }
    return sum;
}

static void check_sums(const Sizes *of, int wanted_kernels) {
    int kernels;
    float *image = noise(image_count(of)), *filters = noise(filter_count(of));
    float *got = computed(of, image, filters, "1", &kernels);
    int64_t h = side(of, of->height), w = side(of, of->width), at = 0;
    double worst = 0;
    for (int64_t n = 0; n < of->images; n++)
        for (int64_t o = 0; o < of->out; o++)
            for (int64_t y = 0; y < h; y++)
                for (int64_t x = 0; x < w; x++) {
                    double sum = summed(of, image, filters, n, o, y, x, false) + 0.25;
                    double error = fabs(got[at++] - fmax(sum, 0));
                    worst = fmax(worst, error / summed(of, image, filters, n, o, y, x, true));
                }
    CHECK(worst < 1e-5);
    CHECK_INT(kernels, wanted_kernels);
    free(image), free(filters), free(got);
}

TEST(winograd_computes_convolutions) {
    static const Sizes sizes[] = {{1, 3, 4, 4, 4, 1, 1, 1},     {1, 5, 9, 7, 6, 1, 1, 1},
                                  {2, 4, 6, 6, 9, 0, 1, 1},     {3, 8, 8, 12, 5, 1, 1, 1},
                                  {1, 16, 28, 28, 16, 1, 1, 1}, {2, 7, 17, 34, 10, 1, 1, 1},
                                  {1, 9, 11, 5, 40, 0, 1, 1}};
    if (pg_mode() != PG_GRAPH) SKIP("there is no C compiler");
    for (int i = 0; i < COUNT_OF(sizes); i++) {
        bool whole =
            side(&sizes[i], sizes[i].height) % 4 == 0 && side(&sizes[i], sizes[i].width) % 4 == 0;
        check_sums(&sizes[i], whole ? 4 : 5);  // bias and relu are in the last
    }
}

TEST(winograd_leaves_strides_and_groups_alone) {
    static const Sizes sizes[] = {{1, 8, 12, 12, 8, 1, 2, 1}, {1, 8, 12, 12, 8, 1, 1, 2}};
    if (pg_mode() != PG_GRAPH) SKIP("there is no C compiler");
    for (int i = 0; i < COUNT_OF(sizes); i++) {
        int kernels, direct_kernels;
        float *image = noise(image_count(&sizes[i])), *filters = noise(filter_count(&sizes[i]));
        float *got = computed(&sizes[i], image, filters, "1", &kernels);
        float *direct = computed(&sizes[i], image, filters, "0", &direct_kernels);
        CHECK_INT(kernels, direct_kernels);
        CHECK(got[0] == direct[0]);
        free(image), free(filters), free(got), free(direct);
    }
}

// A tile's outputs share what they see: an infinity reaches all of those that see the element, as
// it does directly, and perhaps, as a NaN, the others of their tiles. Nothing else.
TEST(winograd_keeps_an_infinity_in_its_tiles) {
    static const Sizes of = {1, 4, 16, 16, 4, 1, 1, 1};
    if (pg_mode() != PG_GRAPH) SKIP("there is no C compiler");
    int kernels;
    float *image = noise(image_count(&of)), *filters = noise(filter_count(&of));
    float *before = computed(&of, image, filters, "1", &kernels);
    image[16 * 5 + 6] = INFINITY;  // seen by the tile at (4, 4) alone
    float *got = computed(&of, image, filters, "1", &kernels);
    for (int i = 0; i < 4 * 16 * 16; i++) {
        int y = i / 16 % 16, x = i % 16;
        if (y / 4 != 1 || x / 4 != 1) CHECK(got[i] == before[i]);
        if (abs(y - 5) <= 1 && abs(x - 6) <= 1) CHECK(got[i] != before[i]);
    }
    free(image), free(filters), free(before), free(got);
}

// ---- gradients ---------------------------------------------------------------------------------

static void learn(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    PgTensor *y = pg_conv2d(in[0], in[1], NULL, (PgConv){.padding = {1, 1}});
    pg_grad(pg_sum(pg_mul(y, y), PG_ALL_AXES, false), 2, in, out);
}

TEST(winograd_serves_gradients) {
    enum { IMAGE = 2 * 6 * 12 * 12, FILTERS = 5 * 6 * 9 };
    static float slope[2][IMAGE + FILTERS];
    if (pg_mode() != PG_GRAPH) SKIP("there is no C compiler");
    float *image = noise(IMAGE), *filters = noise(FILTERS);
    for (int way = 0; way < 2; way++) {
        setenv("PG_WINOGRAD", way ? "1" : "0", 1);
        pg_scope_begin();
        PgTensor *in[] = {pg_from_data(PG_F32, PG_SHAPE(2, 6, 12, 12), image),
                          pg_from_data(PG_F32, PG_SHAPE(5, 6, 3, 3), filters)};
        PgTensor *out[2];
        PgFunction *function = pg_function(learn, NULL, 2, 2);
        CHECK_INT(pg_call(function, in, out), 0);
        pg_to_host(out[0], slope[way], sizeof(float) * IMAGE);
        pg_to_host(out[1], slope[way] + IMAGE, sizeof(float) * FILTERS);
        pg_function_free(function);
        pg_scope_end();
    }
    unsetenv("PG_WINOGRAD");
    for (int i = 0; i < IMAGE + FILTERS; i++)
        CHECK(fabsf(slope[0][i] - slope[1][i]) <= 2e-4f * (1 + fabsf(slope[0][i])));
    free(image), free(filters);
}
