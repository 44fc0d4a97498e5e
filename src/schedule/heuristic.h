/* heuristic.h - inside the heuristic: what a kernel looks like, and what its files share. */
#ifndef PICOGRAD_HEURISTIC_H
#define PICOGRAD_HEURISTIC_H
#include "schedule/schedule.h"

enum { CHAIN_MAX = 16 };
typedef struct {
    Arena *arena;
    Kernel *kernel;
    IndexTable *indices;
    const ScheduleTarget *target;
    int32_t chain[CHAIN_MAX];  // loops of the perfect nest from the top, outermost first
    int loops;
    Statement *body;  // what the nest holds
    int32_t split;    // the last loop that was split into vectors
    Text text;
} Heuristic;
static inline const char *name_of(const Heuristic *to, int32_t loop) {
    return to->kernel->loops.at[loop].name;
}
static inline bool constant_extent(const Heuristic *to, int32_t loop, int64_t *extent) {
    return index_is_const(to->indices, to->kernel->loops.at[loop].extent, extent);
}
static inline int64_t largest_extent(const Heuristic *to, int32_t loop) {
    return index_high(to->indices, to->kernel->loops.at[loop].extent);
}
// The outermost loop with enough to share evenly, else the longest; -1 if waking a thread costs
// more than it saves.
int32_t thread_loop(Heuristic *to);

// A product of matrices.
typedef struct {
    int32_t rows, columns;   // loops of the result
    int32_t sum[CHAIN_MAX];  // loops summed over, outermost first
    int sums;
    Statement *update, *finish;
    Id left, right;       // the operand that moves with the rows, with the columns
    int32_t packed;       // the buffer of the operand that moves with the columns
    int32_t rows_buffer;  // of the other one
    bool plain;           // what is packed is in memory as it is
} Product;
bool find_product(const Heuristic *to, Product *product);  // over the last two loops
bool columns_are_contiguous(const Heuristic *to, const Product *product);
bool find_product_over(const Heuristic *to, int32_t rows, Product *product);
// Products in the same loops, at most as many; their number, 0 if the kernel is none of those.
int find_products(const Heuristic *to, int32_t rows, int most, Product *product);

typedef struct {
    const char *i, *j, *s;  // rows, columns, accumulator
    int64_t m, n;           // rows and columns of the tile
    int64_t block, depth;   // rows that a thread takes; how much of the outermost sum at a time
} Tile;
// A divisor where there is a good one, so that no rows are left over.
int64_t rows_of_tile(int64_t rows, int64_t most);
// Rows of the tile where rows are padded to whole ones: those that pad little. A row less is a
// register of b used less often, about 3 %.
int64_t padded_tile(int64_t rows, int64_t most);
void add_sums(Heuristic *to, const Product *product, const char *first);  // " k0 k_2 k_3"
// A core decodes less at a time while its other thread runs; then a loop's own instructions and the
// place of its code count. So as many steps of the innermost sum are written in a row as make 64
// FMAs (docs/11-measured.md).
void add_unrolled(Heuristic *to, const char *sum, const Tile *tile);

// heuristic_images.c: for convolutions; NULL: not one of those.
const char *image_schedule(Heuristic *to);

// heuristic_weights.c: for kernels that read weights (out, in); NULL: not one of those. The same
// tiles for other operands (in, out).
const char *weights_schedule(Heuristic *to);
const char *flat_schedule(Heuristic *to);

// heuristic_matrix.c: a product of matrices, by the names of its loops and buffers.
typedef struct {
    Arena *arena;
    const char *unit;       // of matrix_units.c
    const char *i, *j;      // rows and columns of the product
    int64_t rows, columns;  // how many
    const char *k[3];       // the loops summed over: all terms; or groups and what is in them
    int64_t terms[3];       // how many
    int sums;
    const char *s, *a, *b;  // the accumulator; what moves with rows, with columns
    const char *place;      // where b is packed: the loop around i, or top
    int lanes;              // of vectors, for all but the tiles
    bool a_along, b_along;  // a is contiguous along the last sum, b along j
    bool turned;            // rows and columns are those of the result's transpose
} TiledProduct;
const char *tiles_schedule(TiledProduct product);  // NULL if it is too small, or grouped otherwise
#endif
