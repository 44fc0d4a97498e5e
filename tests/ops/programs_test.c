/* programs_test.c - random tensor programs: the reference interpreter, eager and graph mode agree.
 * PG_SEED=n runs program n alone; PG_PROGRAMS=n runs n of them. A failure prints its seed. */
#include "tensor/values.h"

#include <math.h>
#include <stdlib.h>

enum { INPUTS = 4, POOL_MAX = 40, OUTPUTS = 4, ELEMENTS_MAX = 400 };

typedef struct {
    uint64_t state;
    PgTensor *pool[POOL_MAX];
    int count;
} Program;

static int64_t pick(Program *program, int64_t below) {
    program->state = program->state * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)((program->state >> 33) % (uint64_t)below);
}

static PgTensor *any_tensor(Program *program) {
    return program->pool[pick(program, program->count)];
}

static bool is_float(PgTensor *x) { return pg_type(x) == PG_F32; }

static PgTensor *float_tensor(Program *program) {
    for (;;) {
        PgTensor *x = any_tensor(program);
        if (is_float(x)) return x;
    }
}

static int any_axis(Program *program, PgTensor *x) { return (int)pick(program, pg_rank(x)); }

// ---- steps: each gives a tensor, or NULL where the operands do not fit -------------------------

typedef PgTensor *Step(Program *program);
typedef PgTensor *Unary(PgTensor *);
typedef PgTensor *Binary(PgTensor *, PgTensor *);

// Smooth ones, so that rounding stays rounding.
static PgTensor *step_function(Program *program) {
    static Unary *const functions[] = {pg_tanh, pg_sigmoid, pg_abs, pg_neg,
                                       pg_sin,  pg_gelu,    pg_relu};
    return functions[pick(program, COUNT_OF(functions))](float_tensor(program));
}

static bool broadcasts(PgTensor *x, PgTensor *y) {
    int shorter = pg_rank(x) < pg_rank(y) ? pg_rank(x) : pg_rank(y);
    for (int i = 1; i <= shorter; i++)
        if (pg_shape(x, -i) != pg_shape(y, -i) && pg_shape(x, -i) != 1 && pg_shape(y, -i) != 1)
            return false;
    return pg_type(x) == pg_type(y);
}

static PgTensor *step_binary(Program *program) {
    static Binary *const any[] = {pg_add, pg_sub, pg_mul, pg_maximum, pg_minimum};
    static Binary *const whole[] = {pg_idiv, pg_mod, pg_and, pg_or, pg_xor, pg_shl, pg_shr};
    PgTensor *x = any_tensor(program), *y = any_tensor(program);
    int64_t choice = pick(program, COUNT_OF(any) + COUNT_OF(whole));
    if (!broadcasts(x, y)) return NULL;
    if (choice < COUNT_OF(any)) return any[choice](x, y);
    return is_float(x) ? NULL : whole[choice - COUNT_OF(any)](x, y);
}

static PgTensor *step_fold(Program *program) {
    PgTensor *x = any_tensor(program);
    bool keep = pick(program, 2);
    if (!pg_rank(x)) return NULL;
    int axis = any_axis(program, x), axes[] = {axis, 0};
    int count = pick(program, 3) || axis == 0 ? 1 : 2;
    switch (pick(program, 5)) {
    case 0: return pg_sum(x, count, axes, keep);
    case 1: return pg_max(x, count, axes, keep);
    case 2: return pg_min(x, count, axes, keep);
    case 3: return is_float(x) ? pg_mean(x, count, axes, keep) : pg_argmax(x, axis, keep);
    default: return pg_cumsum(x, axis);
    }
}

static PgTensor *step_view(Program *program) {
    PgTensor *x = any_tensor(program);
    if (!pg_rank(x)) return pg_unsqueeze(x, 0);
    int axis = any_axis(program, x), other = any_axis(program, x);
    int64_t size = pg_shape(x, axis), start = pick(program, size);
    switch (pick(program, 7)) {
    case 0: return pg_transpose(x, axis, other);
    case 1: return pg_slice(x, axis, start, start + 1 + pick(program, size - start), 1);
    case 2: return pg_slice(x, axis, PG_NONE, PG_NONE, pick(program, 2) ? 2 : -2);
    case 3: return pg_flip(x, 1, &axis);
    case 4: return pg_reshape(x, PG_SHAPE(-1));
    case 5: return pg_rank(x) > 3 ? NULL : pg_unsqueeze(x, axis);
    default: return pg_rank(x) > 3 || size < 2 ? NULL : pg_unfold(x, axis, 2, 1, 1);
    }
}

static PgTensor *step_copy(Program *program) {
    PgTensor *x = any_tensor(program), *two[] = {x, x};
    if (!pg_rank(x)) return NULL;
    int64_t before[8] = {0}, after[8] = {0};
    before[any_axis(program, x)] = pick(program, 3);
    after[any_axis(program, x)] = pick(program, 3);
    switch (pick(program, 3)) {
    case 0: return pg_pad(x, before, after, (double)pick(program, 2));
    case 1: return pg_concat(2, two, any_axis(program, x));
    default: return pg_contiguous(x);
    }
}

static PgTensor *step_product(Program *program) {
    PgTensor *x = float_tensor(program), *y = float_tensor(program);
    if (!pg_rank(x) || pg_rank(x) > 3 || pg_rank(y) != 2) return NULL;
    if (pg_shape(x, -1) == pg_shape(y, 0)) return pg_matmul(x, y);
    return pg_shape(x, -1) == pg_shape(y, 1) ? pg_linear(x, y, NULL) : NULL;
}

static PgTensor *step_network(Program *program) {
    PgTensor *x = float_tensor(program);
    if (!pg_rank(x)) return NULL;
    switch (pick(program, 4)) {
    case 0: return pg_softmax(x, any_axis(program, x));
    case 1: return pg_rms_norm(x, NULL, 0.1);
    case 2: return pg_layer_norm(x, NULL, NULL, 0.1);
    default: return pg_log_softmax(x, any_axis(program, x));
    }
}

static PgTensor *step_pick(Program *program) {
    PgTensor *x = any_tensor(program), *index = any_tensor(program);
    if (!pg_rank(x) || is_float(index) || pg_type(index) == PG_BOOL || pg_rank(index) != 1)
        return NULL;
    return pg_index(x, any_axis(program, x), index);
}

// Of integers alone: a float next to its rival may fall on either side.
static PgTensor *step_choose(Program *program) {
    PgTensor *x = any_tensor(program), *y = any_tensor(program), *z = any_tensor(program);
    if (is_float(x) || !broadcasts(x, y) || pg_rank(z)) return NULL;
    PgTensor *less = pick(program, 2) ? pg_lt(x, y) : pg_eq(x, y);
    return pg_where(less, pg_cast(x, PG_F32), pg_cast(z, PG_F32));
}

static PgTensor *step_cast(Program *program) {
    static const PgType types[] = {PG_I32, PG_I64, PG_I8, PG_U8, PG_U32, PG_F32};
    PgTensor *x = any_tensor(program);
    return is_float(x) ? NULL : pg_cast(x, types[pick(program, COUNT_OF(types))]);
}

static Step *const steps[] = {step_function, step_binary, step_binary, step_fold,
                              step_view,     step_view,   step_copy,   step_product,
                              step_network,  step_pick,   step_choose, step_cast};

// Large enough values would turn rounding into anything.
static PgTensor *tamed(PgTensor *x) { return is_float(x) ? pg_clamp(x, -8, 8) : x; }

static void body(void *context, PgTensor **in, PgTensor **out) {
    Program program = {.state = *(uint64_t *)context, .count = INPUTS};
    for (int i = 0; i < INPUTS; i++) program.pool[i] = in[i];
    for (int wanted = INPUTS + 4 + (int)pick(&program, 10); program.count < wanted;) {
        PgTensor *x = steps[pick(&program, COUNT_OF(steps))](&program);
        if (x && pg_count(x) > 0 && pg_count(x) <= ELEMENTS_MAX)
            program.pool[program.count++] = tamed(x);
    }
    for (int i = 0; i < OUTPUTS; i++) out[i] = program.pool[program.count - OUTPUTS + i];
}

// ---- running them ------------------------------------------------------------------------------

static void inputs(uint64_t seed, PgTensor **in) {
    PgTensor *number = pg_from_data(PG_I64, PG_SCALAR, &seed);
    in[0] = pg_randn(number, PG_SHAPE(2, 3));
    in[1] = pg_randn(number, PG_SHAPE(3, 4));
    in[2] = pg_cast(
        pg_idiv(pg_cast(pg_random_bits(number, PG_SHAPE(4)), PG_I64), pg_scalar(1 << 29)), PG_I32);
    in[3] = pg_cast(pg_scalar((double)(seed % 5)), PG_I32);
}

// All outputs' elements, one after the other; their number.
static int run(PgMode mode, bool reference, uint64_t seed, double *value) {
    if (reference) setenv("PG_ISA", "ref", 1);
    pg_scope_begin();
    pg_set_mode(mode);
    PgTensor *in[INPUTS], *out[OUTPUTS];
    inputs(seed, in);
    PgFunction *function = pg_function(body, &seed, INPUTS, OUTPUTS);
    CHECK_INT(pg_call(function, in, out), 0);
    int count = 0;
    for (int i = 0; i < OUTPUTS; i++) {
        PgTensor *x = pg_reshape(pg_cast(out[i], PG_F32), PG_SHAPE(-1));
        float data[ELEMENTS_MAX];
        pg_to_host(x, data, (size_t)pg_count(x) * sizeof *data);
        for (int64_t j = 0; j < pg_count(x); j++) value[count++] = (double)data[j];
    }
    pg_function_free(function);
    pg_scope_end();
    if (reference) unsetenv("PG_ISA");
    return count;
}

static void compare(PgMode mode, uint64_t seed) {
    static double want[OUTPUTS * ELEMENTS_MAX], got[OUTPUTS * ELEMENTS_MAX];
    int wanted = run(PG_EAGER, true, seed, want);
    CHECK_INT(run(mode, false, seed, got), wanted);
    for (int i = 0; i < wanted; i++) {
        bool same = got[i] == want[i] || (isnan(got[i]) && isnan(want[i])) ||
                    fabs(got[i] - want[i]) <= 2e-4 * (1 + fabs(want[i]));
        if (!same)
            fatal("PG_SEED=%llu: value %d is %.9g, not %.9g", (unsigned long long)seed, i, got[i],
                  want[i]);
    }
}

static void compare_all(PgMode mode, int64_t programs) {
    if (getenv("PG_ISA")) SKIP("PG_ISA is set: the reference would be compared with itself");
    int64_t seed = env_int("SEED", -1);
    if (seed >= 0) {
        compare(mode, (uint64_t)seed);
        return;
    }
    programs = env_int("PROGRAMS", programs);
    for (int64_t i = 0; i < programs; i++) compare(mode, (uint64_t)i);
}

TEST(eager_is_the_reference) { compare_all(PG_EAGER, 300); }

TEST(graph_is_the_reference) { compare_all(PG_GRAPH, 30); }
