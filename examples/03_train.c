/* 03_train.c - a small network learns which points of a plane lie inside a circle. A whole step
 * (prediction, loss, slopes, AdamW) is one function, traced and compiled once; the weights that it
 * uses are captured and updated in place.
 *
 *   cc examples/03_train.c -Iinclude build/libpicograd.a -lm -ldl -lpthread -o build/train
 *   build/train                                                                                 */
#include "picograd.h"

#include <stdio.h>

enum { POINTS = 256, HIDDEN = 16, WEIGHTS = 4, STEPS = 200 };

typedef struct {
    PgTensor *weight[WEIGHTS], *mean[WEIGHTS], *square[WEIGHTS];  // the last two are AdamW's state
} Network;

// (points, 2): how much each looks to be outside, inside.
static PgTensor *predict(const Network *network, PgTensor *points) {
    PgTensor *hidden = pg_tanh(pg_linear(points, network->weight[0], network->weight[1]));
    return pg_linear(hidden, network->weight[2], network->weight[3]);
}

// in: points, classes, the number of the step.  out: the loss before the step.
static void step(void *context, PgTensor **in, PgTensor **out) {
    Network *network = context;
    PgTensor *slope[WEIGHTS];
    out[0] = pg_cross_entropy(predict(network, in[0]), in[1]);
    pg_grad(out[0], WEIGHTS, network->weight, slope);
    for (int i = 0; i < WEIGHTS; i++)
        pg_adamw(network->weight[i], slope[i], network->mean[i], network->square[i], in[2],
                 pg_scalar(0.05), (PgAdam){.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8});
}

int main(void) {
    const int rank[WEIGHTS] = {2, 1, 2, 1};
    const int64_t shape[WEIGHTS][2] = {{HIDDEN, 2}, {HIDDEN}, {2, HIDDEN}, {2}};
    Network network;
    pg_seed(1);  // the same numbers on every machine
    for (int i = 0; i < WEIGHTS; i++) {
        network.weight[i] = pg_keep(pg_randn(NULL, rank[i], shape[i]));
        network.mean[i] = pg_keep(pg_zeros(PG_F32, rank[i], shape[i]));
        network.square[i] = pg_keep(pg_zeros(PG_F32, rank[i], shape[i]));
    }
    PgTensor *points = pg_randn(NULL, PG_SHAPE(POINTS, 2));
    PgTensor *radius = pg_sum(pg_mul(points, points), PG_AXES(1), false);
    PgTensor *classes = pg_cast(pg_lt(radius, pg_scalar(1.4)), PG_I32);

    PgFunction *function = pg_function(step, &network, 3, 1);
    for (int i = 1; i <= STEPS; i++) {
        pg_scope_begin();  // what a step makes ends with it
        PgTensor *loss, *in[] = {points, classes, pg_full(PG_F32, PG_SCALAR, i)};
        if (pg_call(function, in, &loss)) return fprintf(stderr, "%s\n", pg_error()), 1;
        if (i == 1 || i % 50 == 0) printf("step %3d: loss %.2f\n", i, pg_item(loss));
        pg_scope_end();
    }
    PgTensor *guess = pg_cast(pg_argmax(predict(&network, points), 1, false), PG_I32);
    PgTensor *right = pg_cast(pg_eq(guess, classes), PG_I32);
    printf("%lld of %d points are right\n",
           (long long)pg_item_int(pg_sum(right, PG_ALL_AXES, false)), POINTS);
    pg_function_free(function);
    return 0;
}

/* Prints:
 *   step   1: loss 1.93
 *   step  50: loss 0.25
 *   step 100: loss 0.14
 *   step 150: loss 0.11
 *   step 200: loss 0.09
 *   251 of 256 points are right
 */
