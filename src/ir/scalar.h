/* scalar.h - one element on its own, whatever its dtype: what constant folding and the reference
 * interpreter compute with. The arithmetic is the scalar column of ops.def.                  */
#ifndef PICOGRAD_SCALAR_H
#define PICOGRAD_SCALAR_H
#include "ir/ir.h"

// Floats are `real` (f16 and bf16 widened, which is exact); integers and bool are `integer`, always
// in their dtype's range. Never both.
typedef union {
    float real;
    int64_t integer;
} Scalar;

// The value for one element. `dtype` is the last source's (not a WHERE's condition's). CAST is
// scalar_cast's. A float result is rounded to `dtype`; an integer one wraps.
float scalar_tf32(float x);
Scalar scalar_apply(Op op, DType dtype, Scalar x, Scalar y, Scalar z);
// Float to integer truncates and saturates, NaN gives 0. Integers wrap. To bool is `!= 0`.
Scalar scalar_cast(Scalar value, DType from, DType to);
Scalar scalar_identity(Op fold, DType dtype);     // of add, max or mul: 0, lowest, 1
int64_t scalar_wrap(DType dtype, int64_t value);  // into an integer dtype's range
Scalar scalar_load(DType dtype, const void *at);  // a stored element, any alignment
void scalar_store(DType dtype, void *at, Scalar value);

// The storage formats, by bits; rounding is to nearest even, a NaN stays a (quiet) NaN.
float f16_widen(uint16_t bits);
uint16_t f16_round(float value);
float bf16_widen(uint16_t bits);
uint16_t bf16_round(float value);
#endif
