/* reference_test.c - the oracle against numbers worked out by hand: every op of the tensor dialect,
 * in every dtype that it takes, with NaN, infinities, -0 and the integers' limits.             */
#include "ir/scalar.h"
#include "runtime/runtime.h"
#include "test.h"

#include <math.h>
#include <string.h>

#define F(...)   ((const double[]){__VA_ARGS__})
#define I(...)   ((const int64_t[]){__VA_ARGS__})
#define S(...)   shape_of(COUNT_OF(I(__VA_ARGS__)), __VA_ARGS__)
#define L(value) INT64_C(value)
enum { PARAMS = 64, ELEMENTS = 4096 };
static const Shape scalar = {0};

typedef struct {
    Arena *arena;
    Graph *graph;
    void *param[PARAMS], *buffer[4];
    int params;
    int64_t var[4];
} World;

static World world_new(void) {
    World world = {.arena = arena_new()};
    world.graph = graph_new(world.arena);
    return world;
}

static void *bound_buffer(void *context, int64_t id) { return ((World *)context)->buffer[id]; }

static void *bound_param(void *context, int64_t number) {
    return ((World *)context)->param[number];
}

static int64_t bound_var(void *context, int32_t var) { return ((World *)context)->var[var]; }

static void run(World *world, Id id, void *to) {
    reference_run(world->graph, id, &(Binding){bound_buffer, bound_param, bound_var, world}, to);
}

static void *elements(World *world, DType dtype, int64_t count, const double *real,
                      const int64_t *integer) {
    char *at = arena_array(world->arena, char, count *dtypes[dtype].bytes);
    for (int64_t i = 0; i < count; i++) {
        Scalar value = {.integer = integer ? integer[i] : 0};
        if (real) value.real = (float)real[i];
        value = scalar_cast(value, real ? DT_F32 : DT_I64, dtype);
        scalar_store(dtype, at + i * dtypes[dtype].bytes, value);
    }
    return at;
}

static Id param(World *world, DType dtype, Shape shape, void *at) {
    world->param[world->params] = at;
    return node_param(world->graph, dtype, shape, world->params++);
}

// A PARAM with these elements, each cast to dtype.
static Id floats(World *world, DType dtype, Shape shape, const double *value) {
    int64_t count = shape_capacity(graph_indices(world->graph), shape);
    return param(world, dtype, shape, elements(world, dtype, count, value, NULL));
}

static Id ints(World *world, DType dtype, Shape shape, const int64_t *value) {
    int64_t count = shape_capacity(graph_indices(world->graph), shape);
    return param(world, dtype, shape, elements(world, dtype, count, NULL, value));
}

static Id count_up(World *world, DType dtype, Shape shape) {  // 0 1 2 ...
    int64_t value[ELEMENTS];
    for (int i = 0; i < ELEMENTS; i++) value[i] = i;
    return ints(world, dtype, shape, value);
}

// -0 and 0 differ; every NaN is the same.
static void check_float(Scalar got, double wanted, int at) {
    if (isnan(wanted) && isnan(got.real)) return;
    float rounded = (float)wanted;
    if (memcmp(&got.real, &rounded, sizeof rounded) != 0) {
        printf("element %d:\n", at);
        CHECK_NEAR((double)got.real, wanted, 0);
        CHECK(signbit(got.real) == signbit(wanted));
    }
}

static void gives_floats(World *world, Id id, Shape shape, const double *wanted) {
    char at[ELEMENTS * 8];
    DType dtype = node_dtype(world->graph, id);
    CHECK(dtype_is_float(dtype));
    CHECK_TEXT(graph_shape_text(world->graph, node_shape(world->graph, id)),
               graph_shape_text(world->graph, shape));
    run(world, id, at);
    int64_t count = shape_capacity(graph_indices(world->graph), shape);
    for (int i = 0; i < count; i++)
        check_float(scalar_load(dtype, at + i * dtypes[dtype].bytes), wanted[i], i);
}

static void gives_ints(World *world, Id id, Shape shape, const int64_t *wanted) {
    char at[ELEMENTS * 8];
    DType dtype = node_dtype(world->graph, id);
    CHECK(!dtype_is_float(dtype));
    CHECK_TEXT(graph_shape_text(world->graph, node_shape(world->graph, id)),
               graph_shape_text(world->graph, shape));
    run(world, id, at);
    int64_t count = shape_capacity(graph_indices(world->graph), shape);
    for (int i = 0; i < count; i++)
        CHECK_INT(scalar_load(dtype, at + i * dtypes[dtype].bytes).integer, wanted[i]);
}

// Small integers, whatever the dtype.
static void gives(World *world, Id id, Shape shape, const int64_t *wanted) {
    gives_ints(world, node_cast(world->graph, id, DT_I64), shape, wanted);
}

// ---- leaves ------------------------------------------------------------------------------------

TEST(leaves) {
    World world = world_new();
    Graph *graph = world.graph;
    for (int dtype = 0; dtype < DT_COUNT; dtype++) {
        if (dtype_is_float((DType)dtype)) {
            gives_floats(&world, node_const_float(graph, (DType)dtype, S(2), 1.5), S(2),
                         F(1.5, 1.5));
            gives_floats(&world, node_iota(graph, (DType)dtype, S(2, 3), 1), S(2, 3),
                         F(0, 1, 2, 0, 1, 2));
        } else {
            gives_ints(&world, node_const_int(graph, (DType)dtype, S(2), 1), S(2), I(1, 1));
            if (dtype == DT_BOOL) continue;
            gives_ints(&world, node_iota(graph, (DType)dtype, S(2, 3), 0), S(2, 3),
                       I(0, 0, 0, 1, 1, 1));
        }
    }
    int32_t position = graph_var(graph, "position", 0, 100);
    world.var[position] = 17;
    gives_ints(&world, node_var(graph, position), scalar, I(17));
    float memory[] = {1, 2, 3};
    world.buffer[2] = memory;
    gives_floats(&world, node_buffer(graph, DT_F32, S(3), 2, 0), S(3), F(1, 2, 3));
    arena_free(world.arena);
}

// ---- movement ----------------------------------------------------------------------------------

TEST(movement) {
    World world = world_new();
    Graph *graph = world.graph;
    for (int i = 0; i < DT_COUNT - 1; i++) {  // bool holds no 0 to 5
        DType dtype = (DType)i;
        Id x = node_cast(graph, count_up(&world, DT_I32, S(2, 3)), dtype);
        gives(&world, node_reshape(graph, x, S(3, 2)), S(3, 2), I(0, 1, 2, 3, 4, 5));
        gives(&world, node_permute(graph, x, (int[]){1, 0}), S(3, 2), I(0, 3, 1, 4, 2, 5));
        gives(&world, node_expand(graph, node_reshape(graph, x, S(2, 1, 3)), S(2, 2, 3)),
              S(2, 2, 3), I(0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5));
        gives(&world, node_pad(graph, x, I(1, 0), I(0, 2)), S(3, 5),
              I(0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 3, 4, 5, 0, 0));
        gives(&world, node_shrink(graph, x, I(0, 1), I(2, 2)), S(2, 2), I(1, 2, 4, 5));
        gives(&world, node_flip(graph, x, 1), S(2, 3), I(3, 4, 5, 0, 1, 2));
        gives(&world, node_flip(graph, x, 3), S(2, 3), I(5, 4, 3, 2, 1, 0));
        gives(&world, node_window(graph, x, 1, 2, 1, 1), S(2, 2, 2), I(0, 1, 1, 2, 3, 4, 4, 5));
    }
    arena_free(world.arena);
}

TEST(permute_of_three_axes) {
    World world = world_new();
    Id x = count_up(&world, DT_I32, S(2, 3, 2));
    // Out axis i is x's axes[i]: element (a, b, c) is x[b, c, a].
    gives_ints(&world, node_permute(world.graph, x, (int[]){2, 0, 1}), S(2, 2, 3),
               I(0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11));
    arena_free(world.arena);
}

TEST(window_with_stride_and_dilation) {
    World world = world_new();
    Id x = count_up(&world, DT_F32, S(9, 1));
    gives_floats(&world, node_window(world.graph, x, 0, 3, 2, 2), S(3, 1, 3),
                 F(0, 2, 4, 2, 4, 6, 4, 6, 8));
    arena_free(world.arena);
}

TEST(symbolic_sizes) {
    World world = world_new();
    Graph *graph = world.graph;
    int32_t keys = graph_var(graph, "keys", 1, 8);
    world.var[keys] = 3;
    Size size = size_from_index(graph_indices(graph), graph_var_index(graph, keys));
    Id x =
        param(&world, DT_F32, S(2, size), elements(&world, DT_F32, 6, F(1, 2, 3, 4, 5, 6), NULL));
    float got[16];
    run(&world, node_reduce(graph, OP_ADD, x, 2), got);
    CHECK(got[0] == 6 && got[1] == 15);
    run(&world, node_permute(graph, x, (int[]){1, 0}), got);
    CHECK(got[0] == 1 && got[1] == 4 && got[4] == 3 && got[5] == 6);
    // The last key, and a pad to keys + 1.
    Size last = size_sub(graph_indices(graph), size, 1);
    run(&world, node_shrink(graph, x, (Size[]){0, last}, (Size[]){2, 1}), got);
    CHECK(got[0] == 3 && got[1] == 6);
    run(&world, node_pad(graph, x, (Size[]){0, last}, (Size[]){0, 0}), got);
    CHECK(got[0] == 0 && got[1] == 0 && got[2] == 1 && got[9] == 6);
    int64_t count;
    run(&world, node_size(graph, size_add(graph_indices(graph), size, 1)), &count);
    CHECK_INT(count, 4);
    arena_free(world.arena);
}

// ---- element by element ------------------------------------------------------------------------

static Id apply(World *world, Op op, const Id *x) {
    Shape shape = node_shape(world->graph, x[0]);
    DType dtype = node_dtype(world->graph, x[ops[op].arity - 1]);
    if (ops[op].properties & TO_BOOL) dtype = DT_BOOL;
    return node_make(world->graph, op, dtype, shape, ops[op].arity, x, 0, NULL);
}

static const struct {
    Op op;
    int64_t wanted;
} of_3_and_2[] = {
    {OP_ADD, 5}, {OP_MUL, 6},   {OP_MAX, 3}, {OP_IDIV, 1}, {OP_MOD, 1},  {OP_CMPLT, 0},
    {OP_AND, 2}, {OP_CMPNE, 1}, {OP_OR, 3},  {OP_XOR, 1},  {OP_SHL, 12}, {OP_SHR, 0},
};

TEST(small_numbers_in_every_dtype) {
    World world = world_new();
    for (int d = 0; d < DT_COUNT - 1; d++) {
        world.params = 0;
        DType dtype = (DType)d;
        Id x[] = {ints(&world, dtype, S(1), I(3)), ints(&world, dtype, S(1), I(2)),
                  ints(&world, dtype, S(1), I(4))};
        for (int i = 0; i < COUNT_OF(of_3_and_2); i++) {
            Op op = of_3_and_2[i].op;
            if (ops[op].properties & (INTEGERS | BITS) && dtype_is_float(dtype)) continue;
            gives(&world, apply(&world, op, x), S(1), &of_3_and_2[i].wanted);
        }
        Id yes = node_const_int(world.graph, DT_BOOL, S(1), 1);
        gives(&world, node_where(world.graph, yes, x[0], x[1]), S(1), I(3));
        if (!dtype_is_float(dtype)) continue;
        gives_floats(&world, node_fma(world.graph, x[0], x[1], x[2]), S(1), F(10));
        gives_floats(&world, node_unary(world.graph, OP_RECIP, x[1]), S(1), F(0.5));
        gives_floats(&world, node_unary(world.graph, OP_SQRT, x[2]), S(1), F(2));
        gives_floats(&world, node_unary(world.graph, OP_EXP2, x[0]), S(1), F(8));
        gives_floats(&world, node_unary(world.graph, OP_LOG2, x[2]), S(1), F(2));
        gives_floats(&world, node_unary(world.graph, OP_TRUNC, x[0]), S(1), F(3));
    }
    arena_free(world.arena);
}

TEST(bools) {
    World world = world_new();
    Id x[] = {ints(&world, DT_BOOL, S(4), I(0, 0, 1, 1)),
              ints(&world, DT_BOOL, S(4), I(0, 1, 0, 1)),
              ints(&world, DT_BOOL, S(4), I(1, 1, 0, 0))};
    gives_ints(&world, apply(&world, OP_ADD, x), S(4), I(0, 1, 1, 1));
    gives_ints(&world, apply(&world, OP_OR, x), S(4), I(0, 1, 1, 1));
    gives_ints(&world, apply(&world, OP_MAX, x), S(4), I(0, 1, 1, 1));
    gives_ints(&world, apply(&world, OP_MUL, x), S(4), I(0, 0, 0, 1));
    gives_ints(&world, apply(&world, OP_AND, x), S(4), I(0, 0, 0, 1));
    gives_ints(&world, apply(&world, OP_XOR, x), S(4), I(0, 1, 1, 0));
    gives_ints(&world, apply(&world, OP_CMPNE, x), S(4), I(0, 1, 1, 0));
    gives_ints(&world, apply(&world, OP_CMPLT, x), S(4), I(0, 1, 0, 0));
    gives_ints(&world, apply(&world, OP_WHERE, x), S(4), I(1, 1, 0, 1));
    arena_free(world.arena);
}

static const struct {
    Op op;
    DType dtype;
    int64_t x, y, wanted;
} integers[] = {
    {OP_ADD, DT_I8, 127, 1, -128},
    {OP_ADD, DT_U8, 255, 1, 0},
    {OP_ADD, DT_U16, 65535, 2, 1},
    {OP_ADD, DT_U32, UINT32_MAX, 1, 0},
    {OP_ADD, DT_I32, INT32_MAX, 1, INT32_MIN},
    {OP_ADD, DT_I64, INT64_MAX, 1, INT64_MIN},
    {OP_MUL, DT_I8, -128, -1, -128},
    {OP_MUL, DT_U8, 16, 17, 16},
    {OP_MUL, DT_U16, 65535, 65535, 1},
    {OP_MUL, DT_I32, INT32_MIN, -1, INT32_MIN},
    {OP_MUL, DT_U32, UINT32_MAX, UINT32_MAX, 1},
    {OP_MUL, DT_I64, INT64_MIN, -1, INT64_MIN},
    {OP_MUL, DT_I64, L(1) << 32, L(3) << 31, INT64_MIN},
    {OP_MAX, DT_I64, INT64_MIN, INT64_MAX, INT64_MAX},
    {OP_MAX, DT_U32, UINT32_MAX, 0, UINT32_MAX},
    {OP_MAX, DT_I8, -128, 127, 127},
    {OP_IDIV, DT_I32, 7, -2, -4},
    {OP_IDIV, DT_I32, -7, 2, -4},
    {OP_IDIV, DT_I32, -7, -2, 3},
    {OP_IDIV, DT_I8, -128, -1, -128},
    {OP_IDIV, DT_I32, INT32_MIN, -1, INT32_MIN},
    {OP_IDIV, DT_I64, INT64_MIN, -1, INT64_MIN},
    {OP_IDIV, DT_I64, 5, 0, 0},
    {OP_IDIV, DT_U32, UINT32_MAX, 2, INT32_MAX},
    {OP_MOD, DT_I32, 7, -2, -1},
    {OP_MOD, DT_I32, -7, 2, 1},
    {OP_MOD, DT_I32, -7, -2, -1},
    {OP_MOD, DT_I64, INT64_MIN, -1, 0},
    {OP_MOD, DT_I64, INT64_MIN, INT64_MAX, INT64_MAX - 1},
    {OP_MOD, DT_I64, 5, 0, 0},
    {OP_MOD, DT_U8, 250, 7, 5},
    {OP_CMPLT, DT_U32, UINT32_MAX, 0, 0},
    {OP_CMPLT, DT_I32, -1, 0, 1},
    {OP_CMPLT, DT_I64, INT64_MIN, INT64_MAX, 1},
    {OP_CMPNE, DT_I8, -128, 127, 1},
    {OP_AND, DT_I32, -1, 0x7f, 0x7f},
    {OP_OR, DT_I64, INT64_MIN, 1, INT64_MIN + 1},
    {OP_XOR, DT_U16, 65535, 255, 0xff00},
    {OP_SHL, DT_I32, 1, 31, INT32_MIN},
    {OP_SHL, DT_I32, 1, 33, 2},
    {OP_SHL, DT_I32, -1, 4, -16},
    {OP_SHL, DT_U8, 255, 4, 240},
    {OP_SHL, DT_I64, 1, 63, INT64_MIN},
    {OP_SHL, DT_I64, 1, -1, INT64_MIN},  // the count modulo 64
    {OP_SHR, DT_I32, -16, 2, -4},
    {OP_SHR, DT_I8, -128, 7, -1},
    {OP_SHR, DT_U32, UINT32_MAX, 31, 1},
    {OP_SHR, DT_U8, 200, 8, 200},
    {OP_SHR, DT_I64, INT64_MIN, 63, -1},
};

TEST(integer_limits) {
    World world = world_new();
    for (int i = 0; i < COUNT_OF(integers); i++) {
        world.params = 0;
        DType dtype = integers[i].dtype;
        Id x[] = {ints(&world, dtype, scalar, &integers[i].x),
                  ints(&world, dtype, scalar, &integers[i].y)};
        gives_ints(&world, apply(&world, integers[i].op, x), scalar, &integers[i].wanted);
    }
    arena_free(world.arena);
}

static const struct {
    Op op;
    double x, y, wanted;
} reals[] = {
    {OP_ADD, INFINITY, -INFINITY, NAN},
    {OP_ADD, -0.0, -0.0, -0.0},
    {OP_ADD, -0.0, 0.0, 0.0},
    {OP_ADD, 0x1p24, 1, 0x1p24},  // a tie goes to even
    {OP_MUL, INFINITY, 0, NAN},
    {OP_MUL, -0.0, 3, -0.0},
    {OP_MUL, 0x1p100, 0x1p100, INFINITY},
    {OP_MUL, 0x1p-126, 0.5, 0x1p-127},  // denormals are kept
    {OP_MAX, NAN, 1, NAN},
    {OP_MAX, 1, NAN, NAN},
    {OP_MAX, -INFINITY, -1, -1},
    {OP_MAX, 2, 3, 3},
    {OP_RECIP, 0, 0, INFINITY},
    {OP_RECIP, -0.0, 0, -INFINITY},
    {OP_RECIP, -INFINITY, 0, -0.0},
    {OP_RECIP, 3, 0, 0x1.555556p-2},
    {OP_SQRT, -1, 0, NAN},
    {OP_SQRT, -0.0, 0, -0.0},
    {OP_SQRT, INFINITY, 0, INFINITY},
    {OP_SQRT, 2, 0, 0x1.6a09e6p+0},
    {OP_EXP2, -INFINITY, 0, 0},
    {OP_EXP2, 128, 0, INFINITY},
    {OP_EXP2, -149, 0, 0x1p-149},
    {OP_EXP2, 0.5, 0, 0x1.6a09e6p+0},
    {OP_EXP2, NAN, 0, NAN},
    {OP_LOG2, 0, 0, -INFINITY},
    {OP_LOG2, -1, 0, NAN},
    {OP_LOG2, 0x1p-149, 0, -149},
    {OP_LOG2, 3, 0, 0x1.95c01ap+0},
    {OP_SIN, -0.0, 0, -0.0},
    {OP_SIN, INFINITY, 0, NAN},
    {OP_SIN, 1, 0, 0x1.aed548p-1},
    {OP_SIN, 0x1p20, 0, 0x1.526cccp-2},
    {OP_TRUNC, -1.75, 0, -1},
    {OP_TRUNC, -0.5, 0, -0.0},
    {OP_TRUNC, 0x1.8p60, 0, 0x1.8p60},
    {OP_TRUNC, -INFINITY, 0, -INFINITY},
};

TEST(float_edges) {
    World world = world_new();
    for (int i = 0; i < COUNT_OF(reals); i++) {
        world.params = 0;
        Id x[] = {floats(&world, DT_F32, scalar, &reals[i].x),
                  floats(&world, DT_F32, scalar, &reals[i].y)};
        gives_floats(&world, apply(&world, reals[i].op, x), scalar, &reals[i].wanted);
    }
    arena_free(world.arena);
}

TEST(float_comparisons) {
    World world = world_new();
    Id x[] = {floats(&world, DT_F32, S(6), F(1, NAN, NAN, -0.0, -INFINITY, 2)),
              floats(&world, DT_F32, S(6), F(2, 1, NAN, 0.0, INFINITY, 2))};
    gives_ints(&world, apply(&world, OP_CMPLT, x), S(6), I(1, 0, 0, 0, 1, 0));
    gives_ints(&world, apply(&world, OP_CMPNE, x), S(6), I(1, 1, 1, 0, 1, 0));
    arena_free(world.arena);
}

TEST(where_takes_what_it_does_not_choose) {
    World world = world_new();
    Id chosen = node_where(world.graph, ints(&world, DT_BOOL, S(3), I(0, 1, 1)),
                           floats(&world, DT_F32, S(3), F(NAN, -0.0, 2)),
                           floats(&world, DT_F32, S(3), F(5, NAN, INFINITY)));
    gives_floats(&world, chosen, S(3), F(5, -0.0, 2));
    arena_free(world.arena);
}

TEST(fma_rounds_once) {
    World world = world_new();
    double x = 1 + 0x1p-12;
    Id a = floats(&world, DT_F32, scalar, &x);
    Id b = floats(&world, DT_F32, scalar, F(-(1 + 0x1p-11)));
    gives_floats(&world, node_fma(world.graph, a, a, b), scalar, F(0x1p-24));
    arena_free(world.arena);
}

TEST(half_results_are_rounded) {
    World world = world_new();
    Id x[] = {floats(&world, DT_F16, S(3), F(2048, 65504, 0x1p-24)),
              floats(&world, DT_F16, S(3), F(1, 65504, 0.5))};
    gives_floats(&world, apply(&world, OP_ADD, x), S(3), F(2048, INFINITY, 0.5));
    gives_floats(&world, apply(&world, OP_MUL, x), S(3), F(2048, INFINITY, 0));
    Id y[] = {floats(&world, DT_BF16, S(2), F(256, 1)),
              floats(&world, DT_BF16, S(2), F(1, 0x1p-7))};
    gives_floats(&world, apply(&world, OP_ADD, y), S(2), F(256, 1 + 0x1p-7));
    arena_free(world.arena);
}

// ---- casts -------------------------------------------------------------------------------------

static const struct {
    double x;
    DType to;
    int64_t wanted;
} to_integers[] = {
    {-1.99, DT_I32, -1},
    {2.99, DT_U8, 2},
    {-0.5, DT_U8, 0},
    {300, DT_U8, 255},
    {-300, DT_U8, 0},
    {300, DT_I8, 127},
    {-300, DT_I8, -128},
    {70000, DT_U16, 65535},
    {0x1p31, DT_I32, INT32_MAX},
    {-0x1p31, DT_I32, INT32_MIN},
    {-0x1p40, DT_I32, INT32_MIN},
    {0x1p32, DT_U32, UINT32_MAX},
    {0x1p31, DT_U32, L(1) << 31},
    {0x1p63, DT_I64, INT64_MAX},
    {-0x1p63, DT_I64, INT64_MIN},
    {0x1p62, DT_I64, L(1) << 62},
    {INFINITY, DT_I64, INT64_MAX},
    {-INFINITY, DT_I8, -128},
    {-INFINITY, DT_U32, 0},
    {NAN, DT_I32, 0},
    {NAN, DT_U8, 0},
    {NAN, DT_BOOL, 1},
    {-0.0, DT_BOOL, 0},
    {0x1p-149, DT_BOOL, 1},
};

TEST(casts_from_floats) {
    World world = world_new();
    for (int i = 0; i < COUNT_OF(to_integers); i++) {
        world.params = 0;
        Id x = floats(&world, DT_F32, scalar, &to_integers[i].x);
        gives_ints(&world, node_cast(world.graph, x, to_integers[i].to), scalar,
                   &to_integers[i].wanted);
    }
    Id x = floats(&world, DT_F32, S(8),
                  F(1 + 0x1p-11, 1 + 0x3p-11, 65519, 65520, 0x1p-25, 0x1.8p-25, -1e9, NAN));
    gives_floats(&world, node_cast(world.graph, x, DT_F16), S(8),
                 F(1, 1 + 0x1p-9, 65504, INFINITY, 0, 0x1p-24, -INFINITY, NAN));
    Id y = floats(&world, DT_F32, S(4), F(1 + 0x1p-8, 1 + 0x3p-8, 0x1.fffffep127, -0.0));
    gives_floats(&world, node_cast(world.graph, y, DT_BF16), S(4),
                 F(1, 1 + 0x1p-6, INFINITY, -0.0));
    arena_free(world.arena);
}

TEST(casts_from_integers) {
    World world = world_new();
    Graph *graph = world.graph;
    Id x = ints(&world, DT_I64, S(4), I(-1, 300, INT64_MAX, L(1) << 40));
    gives_ints(&world, node_cast(graph, x, DT_U8), S(4), I(255, 44, 255, 0));
    gives_ints(&world, node_cast(graph, x, DT_I8), S(4), I(-1, 44, -1, 0));
    gives_ints(&world, node_cast(graph, x, DT_U32), S(4), I(UINT32_MAX, 300, UINT32_MAX, 0));
    gives_ints(&world, node_cast(graph, x, DT_BOOL), S(4), I(1, 1, 1, 1));
    gives_floats(&world, node_cast(graph, x, DT_F32), S(4), F(-1, 300, 0x1p63, 0x1p40));
    gives_floats(&world, node_cast(graph, x, DT_F16), S(4), F(-1, 300, INFINITY, INFINITY));
    Id y = ints(&world, DT_I32, S(2), I((1 << 24) + 1, -(1 << 24) - 3));
    gives_floats(&world, node_cast(graph, y, DT_F32), S(2), F(0x1p24, -0x1p24 - 4));
    Id b = ints(&world, DT_BOOL, S(2), I(0, 1));
    gives_floats(&world, node_cast(graph, b, DT_BF16), S(2), F(0, 1));
    gives_ints(&world, node_cast(graph, b, DT_I64), S(2), I(0, 1));
    arena_free(world.arena);
}

TEST(every_pair_of_dtypes_casts) {
    World world = world_new();
    for (int from = 0; from < DT_COUNT; from++)
        for (int to = 0; to < DT_COUNT; to++) {
            world.params = 0;
            Id x = ints(&world, (DType)from, S(2), I(1, 0));
            Id y = node_cast(world.graph, node_cast(world.graph, x, (DType)to), DT_I32);
            gives_ints(&world, y, S(2), I(1, 0));
        }
    arena_free(world.arena);
}

TEST(bitcasts) {
    World world = world_new();
    Graph *graph = world.graph;
    Id x = floats(&world, DT_F32, S(1, 2), F(1, -0.0));
    gives_ints(&world, node_bitcast(graph, x, DT_U32), S(1, 2), I(0x3f800000, 0x80000000));
    gives_ints(&world, node_bitcast(graph, x, DT_I32), S(1, 2), I(0x3f800000, INT32_MIN));
    gives_ints(&world, node_bitcast(graph, x, DT_U8), S(1, 8), I(0, 0, 0x80, 0x3f, 0, 0, 0, 0x80));
    gives_ints(&world, node_bitcast(graph, x, DT_I64), S(1, 1), I((int64_t)0x800000003f800000));
    Id bytes = ints(&world, DT_U8, S(4), I(0, 0x3c, 1, 0x80));
    gives_floats(&world, node_bitcast(graph, bytes, DT_F16), S(2), F(1, -0x1p-24));
    gives_floats(&world, node_bitcast(graph, bytes, DT_BF16), S(2),
                 F(0x1.0p-7, -0x1p-133));  // 3c00 and 8001
    arena_free(world.arena);
}

// ---- folds -------------------------------------------------------------------------------------

TEST(reduces) {
    World world = world_new();
    Graph *graph = world.graph;
    for (int d = 0; d < DT_COUNT - 1; d++) {
        world.params = 0;
        Id x = ints(&world, (DType)d, S(2, 3), I(1, 2, 3, 4, 2, 1));
        gives(&world, node_reduce(graph, OP_ADD, x, 1), S(1, 3), I(5, 4, 4));
        gives(&world, node_reduce(graph, OP_ADD, x, 2), S(2, 1), I(6, 7));
        gives(&world, node_reduce(graph, OP_ADD, x, 3), S(1, 1), I(13));
        gives(&world, node_reduce(graph, OP_MAX, x, 1), S(1, 3), I(4, 2, 3));
        gives(&world, node_reduce(graph, OP_MUL, x, 2), S(2, 1), I(6, 8));
        gives(&world, node_reduce(graph, OP_MUL, x, 0), S(2, 3), I(1, 2, 3, 4, 2, 1));
    }
    Id b = ints(&world, DT_BOOL, S(3, 2), I(0, 0, 0, 1, 1, 1));
    gives_ints(&world, node_reduce(graph, OP_ADD, b, 2), S(3, 1), I(0, 1, 1));
    gives_ints(&world, node_reduce(graph, OP_MUL, b, 2), S(3, 1), I(0, 0, 1));
    gives_ints(&world, node_reduce(graph, OP_MAX, b, 1), S(1, 2), I(1, 1));
    arena_free(world.arena);
}

TEST(reduce_edges) {
    World world = world_new();
    Graph *graph = world.graph;
    Id x = floats(&world, DT_F32, S(3, 3), F(1, NAN, 2, -INFINITY, INFINITY, 0, 1e30, 1, -1e30));
    gives_floats(&world, node_reduce(graph, OP_MAX, x, 2), S(3, 1), F(NAN, INFINITY, 1e30));
    // In double: 1e30 + 1 - 1e30 is 0 there as well; 2^24 + 1 + 1 is not 2^24.
    gives_floats(&world, node_reduce(graph, OP_ADD, x, 2), S(3, 1), F(NAN, NAN, 0));
    Id y = floats(&world, DT_F32, S(3), F(0x1p24, 1, 1));
    gives_floats(&world, node_reduce(graph, OP_ADD, y, 1), S(1), F(0x1p24 + 2));
    Id h = floats(&world, DT_F16, S(3), F(2048, 1, 1));
    gives_floats(&world, node_reduce(graph, OP_ADD, h, 1), S(1), F(2050));
    Id i = ints(&world, DT_I8, S(3), I(100, 100, 100));
    gives_ints(&world, node_reduce(graph, OP_ADD, i, 1), S(1), I(44));
    gives_ints(&world, node_reduce(graph, OP_MUL, i, 1), S(1), I(64));
    arena_free(world.arena);
}

TEST(a_fold_of_nothing_is_its_identity) {
    World world = world_new();
    Graph *graph = world.graph;
    Id x = param(&world, DT_F32, S(2, 0), world.arena);
    gives_floats(&world, node_reduce(graph, OP_ADD, x, 2), S(2, 1), F(0, 0));
    gives_floats(&world, node_reduce(graph, OP_MUL, x, 2), S(2, 1), F(1, 1));
    gives_floats(&world, node_reduce(graph, OP_MAX, x, 2), S(2, 1), F(-INFINITY, -INFINITY));
    static const int64_t lowest[] = {-128, INT32_MIN, INT64_MIN, 0, 0, 0, 0};
    for (int d = DT_I8; d < DT_COUNT; d++) {
        Id y = param(&world, (DType)d, S(0), world.arena);
        gives_ints(&world, node_reduce(graph, OP_MAX, y, 1), S(1), &lowest[d - DT_I8]);
    }
    arena_free(world.arena);
}

TEST(scans) {
    World world = world_new();
    Graph *graph = world.graph;
    for (int d = 0; d < DT_COUNT - 1; d++) {
        world.params = 0;
        Id x = ints(&world, (DType)d, S(2, 3), I(1, 3, 2, 2, 1, 4));
        gives(&world, node_scan(graph, OP_ADD, x, 1), S(2, 3), I(1, 4, 6, 2, 3, 7));
        gives(&world, node_scan(graph, OP_ADD, x, 0), S(2, 3), I(1, 3, 2, 3, 4, 6));
        gives(&world, node_scan(graph, OP_MAX, x, 1), S(2, 3), I(1, 3, 3, 2, 2, 4));
        gives(&world, node_scan(graph, OP_MUL, x, 1), S(2, 3), I(1, 3, 6, 2, 2, 8));
    }
    Id x = floats(&world, DT_F32, S(4), F(0x1p24, 1, 1, NAN));
    gives_floats(&world, node_scan(graph, OP_ADD, x, 0), S(4), F(0x1p24, 0x1p24, 0x1p24 + 2, NAN));
    arena_free(world.arena);
}

// ---- gather, scatter, assign -------------------------------------------------------------------

TEST(gathers) {
    World world = world_new();
    Graph *graph = world.graph;
    Id x = floats(&world, DT_F32, S(3, 2), F(1, 2, 3, 4, 5, -0.0));
    for (int d = DT_I8; d < DT_BOOL; d++) {
        Id rows = ints(&world, (DType)d, S(2, 2), I(2, 0, 1, 2));
        gives_floats(&world, node_gather(graph, x, rows, 0), S(2, 2), F(5, 2, 3, -0.0));
    }
    // Outside is 0; the other axis may be shorter than x's.
    Id rows = ints(&world, DT_I64, S(5, 1), I(-1, 3, INT64_MAX, INT64_MIN, 2));
    gives_floats(&world, node_gather(graph, x, rows, 0), S(5, 1), F(0, 0, 0, 0, 5));
    Id columns = ints(&world, DT_I32, S(3, 3), I(1, 1, 0, 0, 1, 2, 0, 0, 0));
    gives_floats(&world, node_gather(graph, x, columns, 1), S(3, 3), F(2, 2, 1, 3, 4, 0, 5, 5, 5));
    arena_free(world.arena);
}

TEST(scatter_adds) {
    World world = world_new();
    Graph *graph = world.graph;
    Id index = ints(&world, DT_I32, S(5), I(1, 1, -1, 3, 0));
    Id x = floats(&world, DT_F32, S(3), F(1, 0x1p24, -0.0));
    Id values = floats(&world, DT_F32, S(5), F(1, 1, 100, 100, 2));
    gives_floats(&world, node_scatter_add(graph, x, index, values, 0), S(3),
                 F(3, 0x1p24 + 2, -0.0));
    Id small = ints(&world, DT_I8, S(3), I(127, 100, 5));
    Id added = ints(&world, DT_I8, S(5), I(20, 20, 1, 1, 1));
    gives_ints(&world, node_scatter_add(graph, small, index, added, 0), S(3), I(-128, -116, 5));
    Id rows = ints(&world, DT_I64, S(1, 2), I(1, 0));
    Id two = ints(&world, DT_I32, S(2, 2), I(1, 2, 3, 4));
    Id more = ints(&world, DT_I32, S(1, 2), I(10, 20));
    gives_ints(&world, node_scatter_add(graph, two, rows, more, 0), S(2, 2), I(1, 22, 13, 4));
    arena_free(world.arena);
}

TEST(assign_writes_through_views) {
    World world = world_new();
    Graph *graph = world.graph;
    int32_t memory[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    world.buffer[1] = memory;
    Id buffer = node_buffer(graph, DT_I32, S(12), 1, 0);
    // (3, 4), transposed, rows 1 and 2, last column first: elements 9 5 1, 10 6 2 of the memory.
    Id view = node_permute(graph, node_reshape(graph, buffer, S(3, 4)), (int[]){1, 0});
    view = node_flip(graph, node_shrink(graph, view, I(1, 0), I(2, 3)), 2);
    Id value = ints(&world, DT_I32, S(2, 3), I(100, 101, 102, 103, 104, 105));
    Id written = node_assign(graph, view, value, 1, 1);
    gives_ints(&world, written, S(12), I(0, 102, 105, 3, 4, 101, 104, 7, 8, 100, 103, 11));
    CHECK_INT(memory[9], 100);
    CHECK_INT(memory[0], 0);
    arena_free(world.arena);
}

TEST(readers_of_the_old_version_come_before_the_write) {
    World world = world_new();
    Graph *graph = world.graph;
    float memory[] = {1, 2, 3, 4};
    world.buffer[0] = memory;
    Id buffer = node_buffer(graph, DT_F32, S(4), 0, 0);
    Id doubled = node_binary(graph, OP_ADD, buffer, buffer);
    Id written = node_assign(graph, buffer, doubled, 0, 1);  // 2 4 6 8
    Id half = node_shrink(graph, written, I(2), I(2));
    Id again = node_assign(graph, half, node_const_float(graph, DT_F32, S(2), 9), 0, 2);
    Id both = node_binary(graph, OP_ADD, written, buffer);
    gives_floats(&world, node_binary(graph, OP_ADD, again, both), S(4),
                 F(2 + 3, 4 + 6, 9 + 9, 9 + 12));
    CHECK(memory[0] == 2 && memory[1] == 4 && memory[2] == 9 && memory[3] == 9);
    arena_free(world.arena);
}

TEST(assign_to_a_param) {
    World world = world_new();
    Id x = floats(&world, DT_F32, S(3), F(1, 2, 3));
    Id one = node_shrink(world.graph, x, I(1), I(1));
    Id written =
        node_assign(world.graph, one, node_const_float(world.graph, DT_F32, S(1), 7), 0, 1);
    gives_floats(&world, written, S(3), F(1, 7, 3));
    CHECK(((float *)world.param[0])[1] == 7);
    arena_free(world.arena);
}

TEST(what_only_says_something) {
    World world = world_new();
    Graph *graph = world.graph;
    Id x = floats(&world, DT_F32, S(2), F(1, -0.0)), y = floats(&world, DT_F32, S(2), F(3, 4));
    gives_floats(&world, node_withgrad(graph, x, y), S(2), F(1, -0.0));
    gives_floats(&world, node_contiguous(graph, x), S(2), F(1, -0.0));
    gives_floats(&world, node_detach(graph, x), S(2), F(1, -0.0));
    gives_floats(&world, node_unary(graph, OP_COPY, x), S(2), F(1, -0.0));
    arena_free(world.arena);
}

TEST(kernel_ops_are_refused) {
    World world = world_new();
    char to[8];
    Index index = index_const(graph_indices(world.graph), 3);
    Id id = node_make(world.graph, OP_INDEX, DT_I32, scalar, 0, NULL, 1, (int64_t[]){index});
    CHECK_FATAL_TEXT(run(&world, id, to), "no op of the tensor dialect");
    arena_free(world.arena);
}
