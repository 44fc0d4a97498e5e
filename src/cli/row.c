/* row.c - programs by name and size, for bench to measure and explain to explain.
 *   matmul:1024   =>   a function of two 1024 x 1024 matrices, 2.1 GFLOP                         */
#include "cli/cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void matmul(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = pg_matmul(in[0], in[1]);
}

static void softmax(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = pg_softmax(in[0], -1);
}

static void rmsnorm(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = pg_rms_norm(in[0], NULL, 1e-5);
}

// clang-format off
const Row rows[] = {
    {.name = "matmul", .about = "product of two N x N matrices", .unit = "GFLOP/s",
     .body = matmul, .inputs = 2, .power = 3, .factor = 2},
    {.name = "softmax", .about = "softmax of each row of an N x N matrix", .unit = "GB/s",
     .body = softmax, .inputs = 1, .power = 2, .factor = 8},
    {.name = "rmsnorm", .about = "RMS norm of each row of an N x N matrix", .unit = "GB/s",
     .body = rmsnorm, .inputs = 1, .power = 2, .factor = 8},
    {.name = "prefill", .about = "N tokens at once into an empty cache (-m MODEL)",
     .unit = "tok/s", .of_model = true},
    {.name = "decode", .about = "N tokens one by one into an empty cache (-m MODEL)",
     .unit = "tok/s", .of_model = true},
};
// clang-format on
const int row_count = COUNT_OF(rows);

void rows_add(Text *to, bool of_models) {
    for (int i = 0; i < row_count; i++)
        if (of_models || !rows[i].of_model)
            text_add(to, "  %s:N%*s %-50s %s\n", rows[i].name, 8 - (int)strlen(rows[i].name), "",
                     rows[i].about, rows[i].unit);
}

const Row *row_find(const char *text, int64_t *size) {
    const char *colon = strchr(text, ':');
    size_t length = colon ? (size_t)(colon - text) : strlen(text);
    char *end = NULL;
    long long number = colon ? strtoll(colon + 1, &end, 10) : 0;
    for (int i = 0; i < row_count; i++) {
        if (strlen(rows[i].name) != length || strncmp(rows[i].name, text, length)) continue;
        int64_t largest = rows[i].of_model ? 1 << 20 : 16384;
        if (colon && end != colon + 1 && !*end && number >= 1 && number <= largest) {
            *size = number;
            return &rows[i];
        }
        usage_wrong("row %.60s: give a size from 1 to %lld, as in %s:256", text, (long long)largest,
                    rows[i].name);
        return NULL;
    }
    usage_wrong("no row %.60s. Try: picograd bench --list", text);
    return NULL;
}

Work work_open(const Row *row, int64_t size) {
    Work work = {.function = pg_function(row->body, NULL, row->inputs, 1)};
    for (int i = 0; i < row->inputs; i++) {
        PgTensor *seed = pg_full(PG_I64, PG_SCALAR, i + 1);
        work.in[i] = pg_keep(pg_randn(seed, PG_SHAPE(size, size)));
    }
    return work;
}

int work_run(const Work *work) {
    PgTensor *in[] = {work->in[0], work->in[1]}, *out;
    pg_scope_begin();
    bool recorded = pg_no_grad(true);
    int status = pg_call(work->function, in, &out);
    pg_no_grad(recorded);
    pg_scope_end();
    return status;
}

void work_close(Work *work) {
    if (work->function) pg_function_free(work->function);
    *work = (Work){0};
}
