/* golden_test.c - every op beside PyTorch: values and gradients of tests/golden/ops.txt, eager and
 * in traced functions. The file's format is at the top of tests/golden/make_ops.py. */
#include "picograd.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PARAMS_MAX = 8, TENSORS_MAX = 6, CASES_MAX = 1000 };

typedef struct {
    const char *name;
    PgType type;
    int rank;
    int64_t shape[8], count;
    long double *value;  // holds every i64
} Array;

typedef struct {
    const char *name;
    int count;
    int64_t value[8];
} Param;

typedef struct {
    const char *op, *variant, *text;
    double number;
    int params, inputs, grads;
    Param param[PARAMS_MAX];
    Array input[TENSORS_MAX], out, grad[TENSORS_MAX];
} Case;

static Arena *arena;
static Case *cases;
static int case_count;

// ---- reading the file --------------------------------------------------------------------------

static char *at;

static char *word(void) {
    at += strspn(at, " \n");
    char *start = at;
    at += strcspn(at, " \n");
    if (*at) *at++ = 0;
    return start;
}

static long double number(void) { return strtold(word(), NULL); }

static const struct {
    const char *name;
    int bytes;
} types[] = {{"f32", 4}, {"f16", 2}, {"bf16", 2}, {"i8", 1},  {"i32", 4},
             {"i64", 8}, {"u8", 1},  {"u16", 2},  {"u32", 4}, {"bool", 1}};

static PgType type_of(const char *name) {
    for (int i = 0; i < COUNT_OF(types); i++)
        if (!strcmp(types[i].name, name)) return (PgType)i;
    fatal("the golden file has type %s", name);
}

static Array read_array(void) {
    Array array = {.name = word(), .count = 1};
    array.type = type_of(word());
    array.rank = (int)number();
    for (int i = 0; i < array.rank; i++) array.count *= array.shape[i] = (int64_t)number();
    array.value = arena_array(arena, long double, array.count);
    for (int64_t i = 0; i < array.count; i++) array.value[i] = number();
    return array;
}

static Param read_param(void) {
    Param param = {.name = word()};
    param.count = (int)number();
    for (int i = 0; i < param.count; i++) param.value[i] = (int64_t)number();
    return param;
}

static Case read_case(void) {
    Case c = {.op = word(), .variant = word()};
    for (;;) {
        const char *kind = word();
        if (!strcmp(kind, "end")) return c;
        if (!strcmp(kind, "param"))
            c.param[c.params++] = read_param();
        else if (!strcmp(kind, "input"))
            c.input[c.inputs++] = read_array();
        else if (!strcmp(kind, "grad"))
            c.grad[c.grads++] = read_array();
        else if (!strcmp(kind, "output"))
            c.out = read_array();
        else if (!strcmp(kind, "text"))
            word(), c.text = word();
        else if (!strcmp(kind, "number"))
            word(), c.number = (double)number();
        else
            fatal("the golden file has a line of %s", kind);
    }
}

static void read_cases(void) {
    if (cases) return;
    arena = arena_new();
    at = file_read(arena, "tests/golden/ops.txt", NULL);
    CHECK(at != NULL);
    cases = arena_array(arena, Case, CASES_MAX);
    at = strchr(at, '\n');
    while (*(at += strspn(at, " \n"))) {
        CHECK_TEXT(word(), "case");
        CHECK(case_count < CASES_MAX);
        cases[case_count++] = read_case();
    }
    CHECK(case_count > 0);
}

// ---- arrays and tensors ------------------------------------------------------------------------

static PgTensor *tensor_of(const Array *array) {
    PgTensor *x;
    pg_scope_begin();
    if (array->type == PG_I64) {
        int64_t *value = arena_array(arena, int64_t, array->count);
        for (int64_t i = 0; i < array->count; i++) value[i] = (int64_t)array->value[i];
        x = pg_from_data(PG_I64, array->rank, array->shape, value);
    } else if (array->type <= PG_BF16) {
        float *value = arena_array(arena, float, array->count);
        for (int64_t i = 0; i < array->count; i++) value[i] = (float)array->value[i];
        x = pg_cast(pg_from_data(PG_F32, array->rank, array->shape, value), array->type);
    } else {
        int64_t *value = arena_array(arena, int64_t, array->count);
        for (int64_t i = 0; i < array->count; i++) value[i] = (int64_t)array->value[i];
        x = pg_cast(pg_from_data(PG_I64, array->rank, array->shape, value), array->type);
    }
    x = pg_keep(x);
    pg_scope_end();
    return x;
}

static bool is_near(float got, float want, double tolerance) {
    if (isnan(got) || isnan(want)) return isnan(got) && isnan(want);
    if (isinf(got) || isinf(want)) return got == want;
    return fabs((double)got - (double)want) <= tolerance * (1 + fabs((double)want));
}

// The number of elements that differ; the first is printed.
static int differences(const Case *c, const char *what, PgTensor *x, const Array *want,
                       double tolerance) {
    int wrong = 0;
    bool fits = pg_rank(x) == want->rank && pg_type(x) == want->type;
    for (int i = 0; fits && i < want->rank; i++) fits = pg_shape(x, i) == want->shape[i];
    if (!fits) {
        printf("%s %s: %s has another shape or type\n", c->op, c->variant, what);
        return 1;
    }
    bool floats = want->type <= PG_BF16;
    x = pg_reshape(pg_cast(x, floats ? PG_F32 : PG_I64), PG_SHAPE(-1));
    size_t bytes = (size_t)want->count * (floats ? sizeof(float) : sizeof(int64_t));
    void *data = arena_alloc(arena, bytes);
    pg_to_host(x, data, bytes);
    for (int64_t i = 0; i < want->count; i++) {
        bool same = floats ? is_near(((float *)data)[i], (float)want->value[i],
                                     want->type == PG_F32 ? tolerance : 0)
                           : ((int64_t *)data)[i] == (int64_t)want->value[i];
        if (!same && !wrong++)
            printf("%s %s: %s[%lld] is %.9g, not %.9Lg\n", c->op, c->variant, what, (long long)i,
                   floats ? (double)((float *)data)[i] : (double)((int64_t *)data)[i],
                   want->value[i]);
    }
    return wrong;
}

// ---- what each op's cases run ------------------------------------------------------------------

static const Param *param(const Case *c, const char *name) {
    for (int i = 0; i < c->params; i++)
        if (!strcmp(c->param[i].name, name)) return &c->param[i];
    return NULL;
}

static int64_t value(const Case *c, const char *name) { return param(c, name)->value[0]; }

static int axes_of(const Case *c, int axes[8]) {
    const Param *list = param(c, "axes");
    for (int i = 0; i < list->count; i++) axes[i] = (int)list->value[i];
    return list->count;
}

static PgConv conv_of(const Case *c) {
    PgConv conv = {0};
    const char *const names[] = {"stride", "padding", "dilation"};
    int *const fields[] = {conv.stride, conv.padding, conv.dilation};
    for (int i = 0; i < 3; i++)
        for (int j = 0; param(c, names[i]) && j < param(c, names[i])->count; j++)
            fields[i][j] = (int)param(c, names[i])->value[j];
    if (param(c, "groups")) conv.groups = (int)value(c, "groups");
    return conv;
}

typedef PgTensor *Unary(PgTensor *);
typedef PgTensor *Binary(PgTensor *, PgTensor *);
typedef PgTensor *Along(PgTensor *, int);
typedef PgTensor *Fold(PgTensor *, int, const int *, bool);
typedef PgTensor *Run(const Case *, PgTensor **);

static PgTensor *run_where(const Case *c, PgTensor **x) {
    (void)c;
    return pg_where(x[0], x[1], x[2]);
}

static PgTensor *run_cast(const Case *c, PgTensor **x) { return pg_cast(x[0], type_of(c->text)); }

static PgTensor *run_var(const Case *c, PgTensor **x) {
    int axes[8], count = axes_of(c, axes);
    return pg_variance(x[0], count, axes, (int)value(c, "correction"), value(c, "keep"));
}

static PgTensor *run_argmax(const Case *c, PgTensor **x) {
    return pg_argmax(x[0], (int)value(c, "axis"), false);
}

static PgTensor *run_argmin(const Case *c, PgTensor **x) {
    return pg_argmin(x[0], (int)value(c, "axis"), false);
}

static PgTensor *run_einsum(const Case *c, PgTensor **x) {
    return pg_einsum(c->text, c->inputs, x);
}

static PgTensor *run_conv1d(const Case *c, PgTensor **x) {
    return pg_conv1d(x[0], x[1], c->inputs > 2 ? x[2] : NULL, conv_of(c));
}

static PgTensor *run_conv2d(const Case *c, PgTensor **x) {
    return pg_conv2d(x[0], x[1], c->inputs > 2 ? x[2] : NULL, conv_of(c));
}

static PgTensor *run_avg_pool(const Case *c, PgTensor **x) {
    const int64_t *size = param(c, "kernel")->value;
    return pg_avg_pool2d(x[0], (int[]){(int)size[0], (int)size[1]}, conv_of(c));
}

static PgTensor *run_max_pool(const Case *c, PgTensor **x) {
    const int64_t *size = param(c, "kernel")->value;
    return pg_max_pool2d(x[0], (int[]){(int)size[0], (int)size[1]}, conv_of(c));
}

static PgTensor *run_layer_norm(const Case *c, PgTensor **x) {
    bool affine = c->inputs == 3;
    return pg_layer_norm(x[0], affine ? x[1] : NULL, affine ? x[2] : NULL, c->number);
}

static PgTensor *run_rms_norm(const Case *c, PgTensor **x) {
    return pg_rms_norm(x[0], c->inputs == 2 ? x[1] : NULL, c->number);
}

static PgTensor *run_group_norm(const Case *c, PgTensor **x) {
    return pg_group_norm(x[0], (int)value(c, "groups"), x[1], x[2], c->number);
}

static PgTensor *run_cross_entropy(const Case *c, PgTensor **x) {
    (void)c;
    return pg_cross_entropy(x[0], x[1]);
}

static PgTensor *run_attention(const Case *c, PgTensor **x) {
    return pg_attention(
        x[0], x[1], x[2],
        (PgAttention){.mask = c->inputs > 3 ? x[3] : NULL, .causal = value(c, "causal")});
}

static PgTensor *run_embedding(const Case *c, PgTensor **x) {
    (void)c;
    return pg_embedding(x[0], x[1]);
}

static PgTensor *run_gather(const Case *c, PgTensor **x) {
    return pg_gather(x[0], (int)value(c, "axis"), x[1]);
}

static PgTensor *run_scatter_add(const Case *c, PgTensor **x) {
    return pg_scatter_add(x[0], (int)value(c, "axis"), x[1], x[2]);
}

static PgTensor *run_slice(const Case *c, PgTensor **x) {
    PgTensor *result = x[0];
    for (int axis = 0; axis < param(c, "begin")->count; axis++)
        result = pg_slice(result, axis, param(c, "begin")->value[axis],
                          param(c, "end")->value[axis], param(c, "step")->value[axis]);
    return result;
}

static PgTensor *run_flip(const Case *c, PgTensor **x) {
    int axes[8], count = axes_of(c, axes);
    return pg_flip(x[0], count, axes);
}

static PgTensor *run_permute(const Case *c, PgTensor **x) {
    int axes[8], count = axes_of(c, axes);
    return pg_permute(x[0], count, axes);
}

static PgTensor *run_expand(const Case *c, PgTensor **x) {
    return pg_expand(x[0], param(c, "shape")->count, param(c, "shape")->value);
}

static PgTensor *run_pad(const Case *c, PgTensor **x) {
    return pg_pad(x[0], param(c, "before")->value, param(c, "after")->value, 0);
}

static PgTensor *run_stack(const Case *c, PgTensor **x) {
    return pg_stack(c->inputs, x, (int)value(c, "axis"));
}

static PgTensor *run_concat(const Case *c, PgTensor **x) {
    return pg_concat(c->inputs, x, (int)value(c, "axis"));
}

// Where we are not PyTorch: its idiv and mod cases round towards 0, as C does (ours are its
// floordiv and floormod); and sin is 0 above 1e7, where floats are 1 apart (see expand.c).
static bool is_left_out(const Case *c) {
    return !strcmp(c->op, "idiv") || !strcmp(c->op, "mod") || !strcmp(c->variant, "huge");
}

// clang-format off
static const struct {
    const char *op;
    Unary *unary;
    Binary *binary;
    Along *along;
    Fold *fold;
    Run *run;
    double tolerance;  // 0: 2e-6. exp rounds x * log2(e), for |x| to 88
} rows[] = {
    {.op = "add", .binary = pg_add},
    {.op = "sub", .binary = pg_sub},
    {.op = "mul", .binary = pg_mul},
    {.op = "div", .binary = pg_div},
    {.op = "max", .binary = pg_maximum},
    {.op = "min", .binary = pg_minimum},
    {.op = "floordiv", .binary = pg_idiv},
    {.op = "floormod", .binary = pg_mod},
    {.op = "and", .binary = pg_and},
    {.op = "or", .binary = pg_or},
    {.op = "xor", .binary = pg_xor},
    {.op = "shl", .binary = pg_shl},
    {.op = "shr", .binary = pg_shr},
    {.op = "lt", .binary = pg_lt},
    {.op = "le", .binary = pg_le},
    {.op = "gt", .binary = pg_gt},
    {.op = "ge", .binary = pg_ge},
    {.op = "eq", .binary = pg_eq},
    {.op = "ne", .binary = pg_ne},
    {.op = "exp", .unary = pg_exp, .tolerance = 1e-5},
    {.op = "exp2", .unary = pg_exp2},
    {.op = "sin", .unary = pg_sin},
    {.op = "recip", .unary = pg_recip},
    {.op = "trunc", .unary = pg_trunc},
    {.op = "gelu", .unary = pg_gelu},
    {.op = "silu", .unary = pg_silu},
    {.op = "gelu_tanh", .unary = pg_gelu_tanh},
    {.op = "log", .unary = pg_log},
    {.op = "log2", .unary = pg_log2},
    {.op = "sqrt", .unary = pg_sqrt},
    {.op = "where", .run = run_where},
    {.op = "cast", .run = run_cast},
    {.op = "sum", .fold = pg_sum},
    {.op = "mean", .fold = pg_mean},
    {.op = "reduce_max", .fold = pg_max},
    {.op = "reduce_min", .fold = pg_min},
    {.op = "var", .run = run_var},
    {.op = "argmax", .run = run_argmax},
    {.op = "argmin", .run = run_argmin},
    {.op = "cumsum", .along = pg_cumsum},
    {.op = "matmul", .binary = pg_matmul},
    {.op = "einsum", .run = run_einsum},
    {.op = "conv1d", .run = run_conv1d},
    {.op = "conv2d", .run = run_conv2d},
    {.op = "avg_pool2d", .run = run_avg_pool},
    {.op = "max_pool2d", .run = run_max_pool},
    {.op = "softmax", .along = pg_softmax},
    {.op = "log_softmax", .along = pg_log_softmax},
    {.op = "layer_norm", .run = run_layer_norm, .tolerance = 1e-5},
    {.op = "rms_norm", .run = run_rms_norm, .tolerance = 1e-5},
    {.op = "group_norm",.run = run_group_norm, .tolerance = 1e-5},
    {.op = "cross_entropy", .run = run_cross_entropy},
    {.op = "attention", .run = run_attention},
    {.op = "embedding", .run = run_embedding},
    {.op = "gather", .run = run_gather},
    {.op = "scatter_add", .run = run_scatter_add},
    {.op = "slice", .run = run_slice},
    {.op = "flip", .run = run_flip},
    {.op = "permute", .run = run_permute},
    {.op = "expand", .run = run_expand},
    {.op = "pad", .run = run_pad},
    {.op = "stack", .run = run_stack},
    {.op = "concat", .run = run_concat},
};
// clang-format on

static PgTensor *run_case(const Case *c, int row, PgTensor **x) {
    if (rows[row].unary) return rows[row].unary(x[0]);
    if (rows[row].binary) return rows[row].binary(x[0], x[1]);
    if (rows[row].along) return rows[row].along(x[0], (int)value(c, "axis"));
    if (rows[row].run) return rows[row].run(c, x);
    int axes[8], count = axes_of(c, axes);
    return rows[row].fold(x[0], count, axes, value(c, "keep"));
}

// sum(out * weight), weight(i) = ((7 * i) % 11 - 5) / 8
static PgTensor *loss_of(PgTensor *out) {
    PgTensor *i = pg_arange(PG_I64, 0, pg_count(out), 1);
    PgTensor *whole = pg_mod(pg_mul(i, pg_scalar(7)), pg_scalar(11));
    PgTensor *weight = pg_mul(pg_cast(pg_sub(whole, pg_scalar(5)), PG_F32), pg_scalar(0.125));
    return pg_sum(pg_mul(pg_reshape(out, PG_SHAPE(-1)), weight), PG_ALL_AXES, false);
}

// One op's cases, as one function: inputs of all, then outputs and gradients of all.
typedef struct {
    int row, count;
    const Case *of[CASES_MAX];
} Group;

static void run_group(void *context, PgTensor **in, PgTensor **out) {
    const Group *group = context;
    for (int i = 0; i < group->count; i++) {
        const Case *c = group->of[i];
        *out = run_case(c, group->row, in);
        PgTensor *result = *out++, *wrt[TENSORS_MAX];
        int grads = 0;
        for (int j = 0; j < c->inputs; j++)
            if (c->grads && c->input[j].type == PG_F32) wrt[grads++] = in[j];
        CHECK_INT(grads, c->grads);
        if (grads) pg_grad(loss_of(result), grads, wrt, out);
        out += grads;
        in += c->inputs;
    }
}

static int check_group(Group *group) {
    PgTensor *in[CASES_MAX], *out[CASES_MAX];
    int inputs = 0, outputs = 0, wrong = 0;
    for (int i = 0; i < group->count; i++) {
        const Case *c = group->of[i];
        for (int j = 0; j < c->inputs; j++) in[inputs++] = tensor_of(&c->input[j]);
        outputs += 1 + c->grads;
    }
    PgFunction *function = pg_function(run_group, group, inputs, outputs);
    CHECK_INT(pg_call(function, in, out), 0);
    double tolerance = rows[group->row].tolerance != 0 ? rows[group->row].tolerance : 2e-6;
    PgTensor **next = out;
    for (int i = 0; i < group->count; i++) {
        const Case *c = group->of[i];
        wrong += differences(c, "out", *next++, &c->out, tolerance) > 0;
        for (int j = 0; j < c->grads; j++)
            wrong += differences(c, c->grad[j].name, *next++, &c->grad[j], 1e-5) > 0;
    }
    pg_function_free(function);
    return wrong;
}

static void check_all(PgMode mode) {
    read_cases();
    int wrong = 0, known = 0;
    PgMode before = pg_mode();
    pg_set_mode(mode);
    for (int row = 0; row < COUNT_OF(rows); row++) {
        Group group = {.row = row};
        for (int i = 0; i < case_count; i++)
            if (!strcmp(cases[i].op, rows[row].op) && !is_left_out(&cases[i]))
                group.of[group.count++] = &cases[i];
        CHECK(group.count > 0);
        known += group.count;
        pg_scope_begin();
        wrong += check_group(&group);
        pg_scope_end();
    }
    for (int i = 0; i < case_count; i++) known += is_left_out(&cases[i]);
    pg_set_mode(before);
    CHECK_INT(known, case_count);
    CHECK_INT(wrong, 0);
}

TEST(golden_eager) { check_all(PG_EAGER); }

TEST(golden_graph) { check_all(PG_GRAPH); }
