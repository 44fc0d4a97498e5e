/* 06_custom_op.c - ops of your own are functions of tensors. Their gradients follow from those of
 * what they are made of, and in a compiled function they are fused as those that are built in.
 * Where the slope is to be another one, pg_detach cuts off what the value would give.
 *
 *   cc examples/06_custom_op.c -Iinclude build/libpicograd.a -lm -ldl -lpthread -o build/custom
 *   build/custom                                                                                */
#include "picograd.h"

#include <stdio.h>

// log(1 + e^x), for any x: e^x alone would be infinite from 89 on.
static PgTensor *softplus(PgTensor *x) {
    PgTensor *small = pg_exp(pg_neg(pg_abs(x)));
    return pg_add(pg_maximum(x, pg_scalar(0)), pg_log(pg_add(small, pg_scalar(1))));
}

// The activation of D. Misra, Mish: A Self Regularized Non-Monotonic Activation Function (2019).
static PgTensor *mish(PgTensor *x) { return pg_mul(x, pg_tanh(softplus(x))); }

// An op with the value of one expression and a slope of your own: value + (x - x) * slope.
static PgTensor *with_slope(PgTensor *x, PgTensor *value, PgTensor *slope) {
    return pg_add(pg_detach(value), pg_mul(pg_sub(x, pg_detach(x)), pg_detach(slope)));
}

// Rounds to steps of a quarter. Its slope is 0 almost everywhere, so that nothing could be learnt
// through it; here it passes slopes on as if it had not rounded, within -1 to 1.
static PgTensor *quantise(PgTensor *x) {
    PgTensor *value = pg_div(pg_round(pg_mul(x, pg_scalar(4))), pg_scalar(4));
    PgTensor *inside = pg_cast(pg_le(pg_abs(x), pg_scalar(1)), PG_F32);
    return with_slope(x, value, inside);
}

typedef PgTensor *Op(PgTensor *x);

// in: x.  out: op(x), and its slope at each x.
static void value_and_slope(void *context, PgTensor **in, PgTensor **out) {
    Op *const *op = context;
    out[0] = (*op)(in[0]);
    pg_grad(pg_sum(out[0], PG_ALL_AXES, false), 1, in, &out[1]);
}

int main(void) {
    Op *const ops[] = {mish, quantise};
    const char *const names[] = {"mish", "quantise"};
    PgTensor *x = pg_from_data(PG_F32, PG_SHAPE(5), (float[]){-2, -0.3f, 0, 0.7f, 100}), *out[2];
    for (int i = 0; i < 2; i++) {
        PgFunction *function = pg_function(value_and_slope, (void *)&ops[i], 1, 2);
        if (pg_call(function, &x, out)) return fprintf(stderr, "%s\n", pg_error()), 1;
        printf("%s and its slope\n", names[i]);
        pg_print(out[0]);
        pg_print(out[1]);
        pg_function_free(function);
    }
    return 0;
}

/* Prints:
 *   mish and its slope
 *   [ -0.2525  -0.1511   0.0000   0.5611 100.0000]
 *   [-0.1084  0.4085  0.6000  0.9688  1.0000]
 *   quantise and its slope
 *   [ -2.0000  -0.2500   0.0000   0.7500 100.0000]
 *   [0. 1. 1. 1. 0.]
 */
