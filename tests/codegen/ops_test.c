/* ops_test.c - every elementwise op in every dtype that it takes, one by one and in vectors,
 * against scalar_apply and scalar_cast. */
#include "codegen/run.h"
#include "ir/scalar.h"
#include "test.h"

#include <math.h>
#include <string.h>

enum { POINTS = 1024, LANES = 8 };

static const double specials[] = {0,
                                  -0.0,
                                  1,
                                  -1,
                                  0.5,
                                  -0.5,
                                  1.5,
                                  2.5,
                                  -2.5,
                                  3,
                                  7,
                                  -7,
                                  100.25,
                                  127.5,
                                  -128.5,
                                  255.5,
                                  256,
                                  32767.5,
                                  65504,
                                  65519,
                                  65520,
                                  -65535.5,
                                  65536,
                                  16777217,
                                  2147483520.0,
                                  2147483648.0,
                                  -2147483648.0,
                                  4294967040.0,
                                  4294967296.0,
                                  9223371487098961920.0,
                                  9223372036854775808.0,
                                  -9223372036854775808.0,
                                  1e30,
                                  3e38,
                                  -3e38,
                                  1e-30,
                                  6e-8,
                                  3e-8,
                                  -1e-7,
                                  6.1e-5,
                                  1e-38,
                                  1e-40,
                                  INFINITY,
                                  -INFINITY,
                                  NAN};

// Element i of a buffer of operands: special values in all pairs, then any bits.
static Scalar operand(DType dtype, int i, uint32_t *seed) {
    random_float(seed);
    uint64_t bits = (uint64_t)*seed >> 3;
    random_float(seed);
    bits |= (uint64_t)*seed >> 2 << 29;
    if (dtype_is_float(dtype)) {
        float any = bf16_widen((uint16_t)(bits >> 20)) * (1 + (float)(bits & 0xfffff) / (1 << 21));
        double value = i < COUNT_OF(specials) ? specials[i] : (double)any;
        return scalar_cast((Scalar){.real = (float)value}, DT_F32, dtype);
    }
    const int64_t near[] = {0,  1,   2,   3,   7,   8,     31,        32,       33,
                            63, 127, 128, 255, 256, 65535, INT32_MAX, INT64_MAX};
    int64_t value =
        i < 2 * COUNT_OF(near) ? near[i / 2] * (i % 2 ? -1 : 1) : (int64_t)bits >> (i % 7 * 8);
    return (Scalar){.integer = scalar_wrap(dtype, value)};
}

typedef struct {
    DType dtype;
    uint8_t *at;
} Column;

// `stride` apart through the special values, so that three columns meet in many combinations.
static Column operands(Arena *arena, DType dtype, int stride) {
    Column column = {dtype, arena_alloc(arena, POINTS * 8)};
    uint32_t seed = (uint32_t)stride;
    for (int i = 0; i < POINTS; i++) {
        Scalar value = operand(dtype, i < POINTS * 3 / 4 ? i * stride % 53 : i, &seed);
        scalar_store(dtype, column.at + i * dtypes[dtype].bytes, value);
    }
    return column;
}

static Scalar element(const Column *column, int i) {
    return scalar_load(column->dtype, column->at + i * dtypes[column->dtype].bytes);
}

static void check_element(Op op, DType from, const Column *got, int i, Scalar wanted) {
    uint8_t bits[8] = {0};
    int bytes = dtypes[got->dtype].bytes;
    scalar_store(got->dtype, bits, wanted);
    if (!memcmp(got->at + i * bytes, bits, (size_t)bytes)) return;
    Scalar is = element(got, i);
    if (dtype_is_float(got->dtype) && isnan(is.real) && isnan(wanted.real)) return;
    if (dtype_is_float(got->dtype))
        fatal("%s %s to %s at %d: %.9g, not %.9g", ops[op].text, dtypes[from].text,
              dtypes[got->dtype].text, i, (double)is.real, (double)wanted.real);
    fatal("%s %s to %s at %d: %ld, not %ld", ops[op].text, dtypes[from].text,
          dtypes[got->dtype].text, i, is.integer, wanted.integer);
}

// ---- kernels: one per dtype, with a store for each op ------------------------------------------

static bool op_takes(Op op, DType dtype) {
    int properties = ops[op].properties;
    if (!(properties & MAPS) || op == OP_CAST || op == OP_BITCAST || op == OP_EXP2 ||
        op == OP_LOG2 || op == OP_SIN)
        return false;
    if (properties & FLOATS) return dtype_is_float(dtype);
    if (properties & INTEGERS) return !dtype_is_float(dtype) && dtype != DT_BOOL;
    return !(properties & BITS) || !dtype_is_float(dtype);
}

typedef struct {
    Text head, body;
    int outputs;
    Op op[OP_COUNT];
    DType to[OP_COUNT];
} Draft;

static void draft_output(Draft *draft, Op op, DType to, const char *value) {
    text_add(&draft->head, "out o%d %s[%d]\n", draft->outputs, dtypes[to].text, POINTS);
    text_add(&draft->body, "o%d[i] = %s\n", draft->outputs, value);
    draft->op[draft->outputs] = op;
    draft->to[draft->outputs++] = to;
}

static Draft draft_ops(Arena *arena, DType dtype) {
    Draft draft = {.head = text_new(arena), .body = text_new(arena)};
    for (Op op = 0; op < OP_COUNT; op++) {
        if (!op_takes(op, dtype)) continue;
        DType to = ops[op].properties & TO_BOOL ? DT_BOOL : dtype;
        const char *form = op == OP_WHERE       ? "(%s b[i] x[i] y[i])"
                           : ops[op].arity == 1 ? "(%s x[i])"
                           : ops[op].arity == 2 ? "(%s x[i] y[i])"
                                                : "(%s x[i] y[i] z[i])";
        Text value = text_new(arena);
        for (const char *at = form; *at; at++)
            if (*at == '%')
                text_add(&value, "%s", ops[op].text), at++;
            else
                text_add(&value, "%c", *at);
        draft_output(&draft, op, to, value.at);
    }
    return draft;
}

static Draft draft_casts(Arena *arena, DType dtype) {
    Draft draft = {.head = text_new(arena), .body = text_new(arena)};
    for (DType to = 0; to < DT_COUNT; to++) {
        draft_output(&draft, OP_CAST, to, arena_print(arena, "(cast:%s x[i])", dtypes[to].text));
        if (dtypes[to].bytes != dtypes[dtype].bytes || to == DT_BOOL) continue;
        draft_output(&draft, OP_BITCAST, to,
                     arena_print(arena, "(bitcast:%s x[i])", dtypes[to].text));
    }
    return draft;
}

// All elements one by one, or i = 8*j + v in vectors.
static Run compile_draft(Arena *arena, const Draft *draft, DType dtype, bool vector) {
    const char *name = dtypes[dtype].text;
    const char *loops = vector ? "for j < 128 {\nvector for v < 8 {\n" : "for i < 1024 {\n";
    Text text = text_new(arena);
    text_add(&text,
             "kernel ops\nin x %s[1024]\nin y %s[1024]\nin z %s[1024]\nin b bool[1024]\n%s%s", name,
             name, name, draft->head.at, loops);
    for (const char *at = draft->body.at; *at; at++)
        text_add(&text, vector && !strncmp(at, "[i]", 3) ? "[8*j + v" : "%c", *at),
            at += vector && !strncmp(at, "[i]", 3);
    text_add(&text, vector ? "}\n}\n" : "}\n");
    return run_compile(text.at);
}

static Scalar bitcast(DType from, DType to, Scalar value) {
    uint8_t bits[8] = {0};
    scalar_store(from, bits, value);
    return scalar_load(to, bits);
}

static void check_draft(DType dtype, Draft (*make)(Arena *, DType), bool vector) {
    Arena *arena = arena_new();
    Draft draft = make(arena, dtype);
    Run run = compile_draft(arena, &draft, dtype, vector);
    Column in[4] = {operands(arena, dtype, 1), operands(arena, dtype, 7),
                    operands(arena, dtype, 11), operands(arena, DT_BOOL, 13)};
    Column out[OP_COUNT];
    void *buffer[4 + OP_COUNT] = {in[0].at, in[1].at, in[2].at, in[3].at};
    for (int o = 0; o < draft.outputs; o++) {
        out[o] = (Column){draft.to[o], arena_alloc(arena, POINTS * 8)};
        buffer[4 + o] = out[o].at;
    }
    run_call(&run, 1, buffer, NULL);
    for (int o = 0; o < draft.outputs; o++) {
        Op op = draft.op[o];
        for (int i = 0; i < POINTS; i++) {
            Scalar x = element(&in[0], i), y = element(&in[1], i), z = element(&in[2], i), wanted;
            if (op == OP_CAST)
                wanted = scalar_cast(x, dtype, out[o].dtype);
            else if (op == OP_BITCAST)
                wanted = bitcast(dtype, out[o].dtype, x);
            else if (op == OP_WHERE)
                wanted = scalar_apply(op, dtype, element(&in[3], i), x, y);
            else
                wanted = scalar_apply(op, dtype, x, y, z);
            check_element(op, dtype, &out[o], i, wanted);
        }
    }
    run_free(&run);
    arena_free(arena);
}

static void check_dtypes(Draft (*make)(Arena *, DType), bool vector) {
    for (int isa = 0; run_isas[isa]; isa++)
        for (DType dtype = 0; run_isa(run_isas[isa]) && dtype < DT_COUNT; dtype++)
            check_draft(dtype, make, vector);
}

TEST(ops_one_by_one) { check_dtypes(draft_ops, false); }
TEST(ops_in_vectors) { check_dtypes(draft_ops, true); }
TEST(casts_one_by_one) { check_dtypes(draft_casts, false); }
TEST(casts_in_vectors) { check_dtypes(draft_casts, true); }
