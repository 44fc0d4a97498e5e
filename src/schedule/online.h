/* online.h - inside online.c and online_fit.c: a softmax of sums as it is found in a kernel. */
#ifndef PICOGRAD_ONLINE_H
#define PICOGRAD_ONLINE_H
#include "schedule/schedule.h"

enum {
    ONLINE_SUMS = 4,
    ONLINE_LOOPS = 16,
    ONLINE_HELD =
        64,  // elements of a value that a GPU's thread has an eighth of beside 8 scores of 8
};

typedef struct {
    int count;
    int32_t loop[ONLINE_LOOPS];
} Loops;

typedef struct {
    Id fold;                 // the REDUCE add
    Id body;                 // what it sums
    Id power;                // the EXP2 that the body is a multiple of
    int32_t loop;            // along the keys
    Loops extra;             // the store's loops that it depends on beside the rows'
    int64_t size;            // points of those
    int32_t state, partial;  // an element for each; in `partial` for each row and block as well
} Sum;

typedef struct {
    Kernel *kernel;
    Graph *graph;
    IndexTable *indices;
    bool gpu;  // a block of threads for each tile of queries, whole tiles of keys
    Statement *store;
    Id value;       // its value, with factors outside of the sums that do not change them
    Loops rows;     // of the loops around the store those that the maximum depends on
    Loops rest;     // inside them
    Id max, score;  // the REDUCE max, and what it folds
    int32_t loop;   // of that
    double scale;   // the power is 2^(scale * (score - max)), times a constant
    Sum sum[ONLINE_SUMS];
    int sums;
    int32_t query;    // the row loop that the values do not depend on; -1: none
    int64_t queries;  // its extent
    int64_t width;    // how many of its iterations are made together, by loops `row`
    int32_t tile;     // query = width * tile + row, where width > 1
    Statement **end;  // of the list being made
    int32_t running;  // the buffer of the maximum of the keys so far
    Id scored;        // the score, with queries as they lie in the kernel's own memory
    Id seen;          // where it counts at all, on a GPU, -1: everywhere
} Online;

static inline const Node *node_of(const Online *to, Id id) { return graph_node(to->graph, id); }

static inline Id real(const Online *to, double value) {
    return node_const_float(to->graph, DT_F32, (Shape){0}, value);
}

static inline Index at_loop(const Online *to, int32_t loop) {
    return kernel_loop_index(to->kernel, loop);
}

static inline int64_t extent_of(const Online *to, int32_t loop) {
    return index_high(to->indices, to->kernel->loops.at[loop].extent);
}

static inline int64_t pieces(int64_t all, int64_t size) { return (all + size - 1) / size; }

static inline Substitution *nothing(const Online *to) {
    return substitution_new(graph_arena(to->graph), to->kernel);
}

// online_fit.c
bool online_find(Online *to, Kernel *kernel, bool gpu);  // whether it is of that form
bool online_has_op(const Online *to, Id value, Op op);
// The power of a score and a maximum that are these nodes; what a sum multiplies its powers with.
Id online_power(const Online *to, const Sum *sum, Id score, Id max);
Id online_weighed(const Online *to, const Sum *sum);
#endif
