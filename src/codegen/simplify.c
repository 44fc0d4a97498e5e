/* simplify.c - lowering, the part that sees constants: what unrolled loops leave of an expression.
 * In: an op and its sources, loops' values put in.  Out: a value of fewer instructions, or -1.
 * Invariant: the same bits, but for a factor below 2^-111, of which a power of two is taken out.
 *   (and (shr (and (shr w 8) 255) 4) 15)        =>   (and (shr w 12) 15)
 *   (mul x (cast:f32 (and (shr w 12) 15)))      =>   (mul (mul x 2^-12) (cast:f32 (and w 61440)))
 * The second is what unpacking a weight of 4 bits costs: a mask and a conversion, since `x` is one
 * number for all lanes, and lanes that share it share its product.                              */
#include <math.h>

#include "codegen/lower.h"
#include "ir/scalar.h"

static const Step *step_of(const Lower *lower, int32_t value) {
    return &lower->program->steps.at[value];
}

static bool is_let(const Lower *lower, int32_t value, Op op) {
    return value >= 0 && step_of(lower, value)->kind == STEP_LET && step_of(lower, value)->op == op;
}

static bool constant_of(const Lower *lower, int32_t value, int64_t *constant) {
    if (is_let(lower, value, OP_VEC)) value = step_of(lower, value)->source[0];
    if (!is_let(lower, value, OP_CONST)) return false;
    *constant = step_of(lower, value)->integer;
    return true;
}

// op(x, constant); a shift by less than a word.
static bool is_by(const Lower *lower, int32_t value, Op op, int32_t *x, int64_t *constant) {
    if (!is_let(lower, value, op) || step_of(lower, value)->type.dtype != DT_I32) return false;
    *x = step_of(lower, value)->source[0];
    return constant_of(lower, step_of(lower, value)->source[1], constant) &&
           (op == OP_AND || (*constant >= 0 && *constant < 32));
}

// The bits that may be set in an i32.
static uint32_t bits_of(const Lower *lower, int32_t value) {
    int32_t x;
    int64_t by;
    if (is_by(lower, value, OP_AND, &x, &by)) return bits_of(lower, x) & (uint32_t)by;
    if (is_by(lower, value, OP_SHR, &x, &by) && bits_of(lower, x) <= INT32_MAX)
        return bits_of(lower, x) >> by;
    if (!is_let(lower, value, OP_CAST)) return UINT32_MAX;
    DType from = step_of(lower, step_of(lower, value)->source[0])->type.dtype;
    return dtypes[from].kind == KIND_UNSIGNED && dtypes[from].bytes < 4
               ? (1u << 8 * dtypes[from].bytes) - 1
               : UINT32_MAX;
}

static int32_t by(Lower *lower, Op op, int32_t x, int64_t constant) {
    return let(lower, op, DT_I32, x, let_integer(lower, DT_I32, constant), -1);
}

static int32_t shifted(Lower *lower, int32_t value, int64_t shift) {
    int32_t x;
    int64_t inner;
    if (shift == 0) return value;
    if (is_by(lower, value, OP_AND, &x, &inner) && inner >= 0)
        return by(lower, OP_AND, by(lower, OP_SHR, x, shift), inner >> shift);
    if (is_by(lower, value, OP_SHR, &x, &inner) && inner + shift < 32)
        return by(lower, OP_SHR, x, inner + shift);
    return -1;
}

// What was taken out of a word to be put elsewhere is taken from where it is moved to.
static int32_t raised(Lower *lower, int32_t value, int64_t shift) {
    int32_t x, word;
    int64_t mask, down;
    if (shift == 0) return value;
    if (!is_by(lower, value, OP_AND, &x, &mask) || mask < 0 || mask << shift > INT32_MAX ||
        !is_by(lower, x, OP_SHR, &word, &down))
        return -1;
    word = down < shift ? by(lower, OP_SHL, word, shift - down)
                        : by(lower, OP_SHR, word, down - shift);
    return by(lower, OP_AND, word, mask << shift);
}

static int32_t masked(Lower *lower, int32_t value, int64_t mask) {
    int32_t x;
    int64_t inner;
    if (!(bits_of(lower, value) & ~(uint32_t)mask)) return value;
    if (is_by(lower, value, OP_AND, &x, &inner)) return by(lower, OP_AND, x, inner & mask);
    return -1;
}

static int32_t integers(Lower *lower, Op op, const int32_t source[3]) {
    int64_t x, y;
    if (ops[op].arity != 2 || !constant_of(lower, source[1], &y)) return -1;
    if (constant_of(lower, source[0], &x) && !(ops[op].properties & TO_BOOL)) {
        Scalar value =
            scalar_apply(op, DT_I32, (Scalar){.integer = x}, (Scalar){.integer = y}, (Scalar){0});
        return let_integer(lower, DT_I32, value.integer);
    }
    if (op == OP_SHR && y >= 0 && y < 32) return shifted(lower, source[0], y);
    if (op == OP_SHL && y >= 0 && y < 32) return raised(lower, source[0], y);
    return op == OP_AND ? masked(lower, source[0], y) : -1;
}

enum { HALF = 16 };

// x times bits of a word, which need not be shifted down if x is made smaller.
static int32_t scaled(Lower *lower, Op op, const int32_t source[3]) {
    for (int i = 0; i < 2; i++) {
        int32_t x = source[i], word, number = source[1 - i], shiftee;
        int64_t mask, shift;
        if (lanes_of(lower, x) > 1 || lanes_of(lower, number) == 1 ||
            !is_let(lower, number, OP_CAST))
            continue;
        number = step_of(lower, number)->source[0];
        if (!is_by(lower, number, OP_AND, &word, &mask) ||
            !is_by(lower, word, OP_SHR, &shiftee, &shift) || mask < 0 || mask > UINT16_MAX)
            continue;
        if (shift >= HALF) shiftee = by(lower, OP_SHR, shiftee, HALF), shift -= HALF;
        int lanes = lanes_of(lower, number);
        int32_t bits = by(lower, OP_AND, shiftee, mask << shift);
        x = widened(lower, x, lanes);
        if (shift) x = let(lower, OP_MUL, DT_F32, x, let_number(lower, ldexp(1, -(int)shift)), -1);
        return let(lower, op, DT_F32, x, let(lower, OP_CAST, DT_F32, bits, -1, -1), source[2]);
    }
    return -1;
}

int32_t simplified(Lower *lower, Op op, DType dtype, const int32_t source[3]) {
    if (dtype == DT_I32) return integers(lower, op, source);
    if (dtype == DT_F32 && (op == OP_MUL || op == OP_FMA)) return scaled(lower, op, source);
    return -1;
}
