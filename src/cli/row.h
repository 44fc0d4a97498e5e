/* row.h - what bench measures, explain explains and roofline draws, by name and sizes:
 *   linear:16x576x1536:q4_1   =>   (16, 576) times packed weights (1536, 576), 28 MFLOP          */
#ifndef PICOGRAD_ROW_H
#define PICOGRAD_ROW_H
#include "cli/cli.h"

enum { ROW_SIZES = 7, ROW_INPUTS = 3 };
typedef struct {
    int64_t size[4];
    int rank;
} RowShape;

// What a row asks for, known from its sizes alone.
typedef struct {
    int inputs;
    RowShape in[ROW_INPUTS], out;
    double operations;  // 0: no product, so memory bounds it
} RowPlan;

typedef enum {
    ROW_OF_TENSORS,
    ROW_PREFILL,  // the others are of a model
    ROW_DECODE,
    ROW_COLD,
    ROW_WARM,
    ROW_MEMORY,
} RowWhat;

typedef struct {
    const char *name, *sizes;  // "linear", "MxKxN"; as many sizes as names between the x
    const char *about, *unit;
    RowWhat what;
    RowPlan (*plan)(const int64_t *size);
    PgFunctionBody *body;    // context: the Work
    bool square;             // one size stands for all
    bool weights, packs;     // the last input is weights; which may be packed
    const char *few, *more;  // sizes that `make bench` runs, and that `make bench-all` adds
} RowKind;
extern const RowKind row_kinds[];
extern const int row_kind_count;

typedef struct {
    const RowKind *kind;
    int64_t size[ROW_SIZES];
    const GgufFormat *format;  // of packed weights; NULL: f32
    RowPlan plan;              // of ROW_OF_TENSORS
} Row;
// -1, having said why
int row_find(const char *text, Row *row);
void rows_add(Text *to, bool of_models);  // the kinds, a line each
void rows_add_json(Text *to);             // the rows that make bench runs, an object a line
bool row_less_is_better(const RowKind *kind);

typedef struct {
    Row row;
    PgFunction *function;
    PgTensor *in[ROW_INPUTS];
    double bytes;  // that a run must at least move: inputs and result, once
} Work;
int work_open(Work *work, const Row *row);  // inputs are made here, once; -1 with error_text()
int work_run(const Work *work);             // -1 with error_text()
void work_close(Work *work);
#endif
