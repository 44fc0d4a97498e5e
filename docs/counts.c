/* counts.c - how many kernels common expressions become, beside tinygrad's at commit a9069c177a.
 * Prints a line before each is compiled; with PG_DEBUG=1 the compiler says after it what it made.
 *   cc docs/counts.c -Iinclude build/libpicograd.a -lm -ldl -lpthread -o build/counts */
#include "picograd.h"

#include <stdio.h>

static void softmax(void *none, PgTensor **in, PgTensor **out) {
    (void)none;
    out[0] = pg_softmax(in[0], -1);
}

static void layer_norm(void *none, PgTensor **in, PgTensor **out) {
    (void)none;
    out[0] = pg_layer_norm(in[0], in[1], in[2], 1e-5);
}

static void rms_norm(void *none, PgTensor **in, PgTensor **out) {
    (void)none;
    out[0] = pg_rms_norm(in[0], in[1], 1e-5);
}

static void attention(void *none, PgTensor **in, PgTensor **out) {
    (void)none;
    PgTensor *x = pg_unsqueeze(in[0], 0);  // one head
    out[0] = pg_attention(x, x, x, (PgAttention){.causal = true});
}

static void norm_silu_conv(void *none, PgTensor **in, PgTensor **out) {
    (void)none;
    PgTensor *x = pg_reshape(in[0], PG_SHAPE(1, 16, 16, 16));
    PgTensor *weight = pg_reshape(pg_slice(in[0], 0, 0, 36, 1), PG_SHAPE(16, 16, 3, 3));
    x = pg_silu(pg_group_norm(x, 4, NULL, NULL, 1e-5));
    out[0] = pg_conv2d(x, weight, NULL, (PgConv){.padding = {1, 1}});
}

static void cross_entropy(void *none, PgTensor **in, PgTensor **out) {
    (void)none;
    out[0] = pg_cross_entropy(in[0], pg_cast(in[1], PG_I32));
}

static void embedding(void *none, PgTensor **in, PgTensor **out) {
    (void)none;
    out[0] = pg_embedding(in[0], pg_cast(in[1], PG_I32));
}

static void argmax(void *none, PgTensor **in, PgTensor **out) {
    (void)none;
    out[0] = pg_argmax(in[0], -1, false);
}

static void matmul_bias_gelu(void *none, PgTensor **in, PgTensor **out) {
    (void)none;
    out[0] = pg_gelu(pg_linear(in[0], in[0], in[1]));
}

static const struct {
    const char *name;
    PgFunctionBody *body;
    int tinygrad;
} rows[] = {
    {"softmax", softmax, 3},
    {"layer norm", layer_norm, 3},
    {"RMSNorm", rms_norm, 2},
    {"attention", attention, 4},
    {"group norm, silu, conv", norm_silu_conv, 4},
    {"cross-entropy", cross_entropy, 3},
    {"embedding", embedding, 1},
    {"argmax", argmax, 1},
    {"matmul, bias, gelu", matmul_bias_gelu, 1},
};

int main(void) {
    PgTensor *x = pg_rand(NULL, PG_SHAPE(64, 144)), *row = pg_rand(NULL, PG_SHAPE(144));
    fprintf(stderr, "%-24s %s %s\n", "kernels of", "tinygrad", "picograd");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        PgTensor *in[] = {x, row, row}, *out;
        if (rows[i].body == cross_entropy) in[1] = pg_slice(row, 0, 0, 64, 1);
        if (rows[i].body == norm_silu_conv) in[0] = pg_rand(NULL, PG_SHAPE(64, 64));
        if (rows[i].body == matmul_bias_gelu) in[1] = pg_slice(row, 0, 0, 64, 1);
        PgFunction *function = pg_function(rows[i].body, NULL, 3, 1);
        fprintf(stderr, "%-24s %8d %7s", rows[i].name, rows[i].tinygrad, "");
        if (pg_call(function, in, &out) < 0) return 1;
        pg_function_free(function);
    }
}
