/* 00_micrograd.c - the expression of micrograd's README and its gradients, three times: of numbers,
 * of tensors, and compiled.
 *
 *   cc examples/00_micrograd.c -Iinclude build/libpicograd.a -lm -ldl -lpthread -o build/micrograd
 *   build/micrograd                                                                             */
#include "picograd.h"

#include <stdio.h>

static PgTensor *number(double value) { return pg_scalar(value); }

static PgTensor *expression(PgTensor *a, PgTensor *b) {
    PgTensor *d = pg_add(pg_mul(a, b), pg_pow(b, number(3)));            // d = a * b + b**3
    PgTensor *c = pg_add(a, b);                                          // c = a + b
    c = pg_add(c, pg_add(c, number(1)));                                 // c += c + 1
    c = pg_add(c, pg_sub(pg_add(number(1), c), a));                      // c += 1 + c + (-a)
    d = pg_add(d, pg_add(pg_mul(d, number(2)), pg_relu(pg_add(b, a))));  // d += d * 2 + relu(b + a)
    d = pg_add(d, pg_add(pg_mul(number(3), d), pg_relu(pg_sub(b, a))));  // d += 3 * d + relu(b - a)
    PgTensor *e = pg_sub(c, d);                                          // e = c - d
    PgTensor *f = pg_pow(e, number(2));                                  // f = e**2
    return pg_add(pg_div(f, number(2)), pg_div(number(10), f));          // g = f / 2 + 10 / f
}

// in: a, b.  out: g, and the gradients of its sum by a and by b.
static void expression_and_slopes(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = expression(in[0], in[1]);
    pg_grad(pg_sum(out[0], PG_ALL_AXES, false), 2, in, &out[1]);
}

int main(void) {
    PgTensor *out[3];

    // Numbers: each call computes its result at once, and remembers what it was made from.
    PgTensor *scalars[] = {pg_from_data(PG_F32, PG_SCALAR, (float[]){-4}),
                           pg_from_data(PG_F32, PG_SCALAR, (float[]){2})};
    expression_and_slopes(NULL, scalars, out);
    printf("g      %.4f\n", pg_item(out[0]));
    printf("a.grad %.4f\n", pg_item(out[1]));
    printf("b.grad %.4f\n", pg_item(out[2]));

    // Tensors: the same code for three pairs of numbers.
    PgTensor *tensors[] = {pg_from_data(PG_F32, PG_SHAPE(3), (float[]){-4, 2, 1}),
                           pg_from_data(PG_F32, PG_SHAPE(3), (float[]){2, 1, -2})};
    expression_and_slopes(NULL, tensors, out);
    for (int i = 0; i < 3; i++) pg_print(out[i]);

    // Compiled: the same code once more, traced at the first call and then run as machine code.
    PgFunction *function = pg_function(expression_and_slopes, NULL, 2, 3);
    for (int step = 0; step < 3; step++)
        if (pg_call(function, tensors, out)) {
            fprintf(stderr, "%s\n", pg_error());
            return 1;
        }
    for (int i = 0; i < 3; i++) pg_print(out[i]);
    pg_function_free(function);
    return 0;
}

/* Prints:
 *   g      24.7041
 *   a.grad 138.8338
 *   b.grad 645.5773
 *   [  24.7041 ...]
 *   [ 138.8338 ...]
 *   [   645.5773 ...]
 *   [  24.7041 ...]
 *   [ 138.8338 ...]
 *   [   645.5773 ...]
 */
