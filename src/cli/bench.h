/* bench.h - inside picograd bench: one row being measured. */
#ifndef PICOGRAD_BENCH_H
#define PICOGRAD_BENCH_H
#include "cli/row.h"

typedef struct {
    Arena *arena;
    const char *json, *form;
    int64_t prompt, predict, samples;
    bool list, tune;
    Text lines;  // of JSON
} Bench;

// What a process measured of a row. A step is a call of the row's function, all tokens of a
// prefill, one token of a decode.
typedef struct {
    Sample sample;             // in the row's unit
    double step_seconds;       // of the median; 0: the row has no steps
    double operations, bytes;  // that a step must do and move, at least
    double compile_seconds;
    int64_t peak_bytes;  // of the process's memory
} Measured;

// bench.c: an opened model's row, EXIT_* and why.
int measure_model(Bench *bench, const Row *row, const Session *session, Measured *to);
void bench_add_runs(Text *to, const Sample *sample);  // a JSON array
// bench_table.c: without rows; a table like llama-bench's
int bench_table(Bench *bench);
#endif
