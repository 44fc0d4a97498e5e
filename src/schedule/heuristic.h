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
    Statement *body;        // what the nest holds
    int32_t split;          // the last loop that was split into vectors
    const char *word[128];  // what a letter after $ stands for
    Text text;
} Heuristic;
void find_chain(Heuristic *to);  // sets chain, loops and body
// Adds lines of a schedule. In them $ and a letter stand for a word, whatever comes after:
//   i: "row", m: "6"   =>   "SPLIT $i $m pad\n" adds "SPLIT row 6 pad\n", and "$i0_$m" is row0_6
// The same letters everywhere:
//   i j    loops of a product's rows and columns        m n    rows and columns of its tile
//   k r    its outermost sum, and " k1 k2" of the rest  z      its innermost sum
//   s a b  its accumulator; what moves with the rows, with the columns
//   o      the loop around, or top                      u v    the matrix unit, lanes of a vector
void add(Heuristic *to, const char *lines);
const char *filled(const Heuristic *to, const char *form);  // such a text, not added
const char *decimal(const Heuristic *to, int64_t number);
static inline const char *buffer_name(const Heuristic *to, int32_t buffer) {
    return to->kernel->buffers.at[buffer].name;
}
static inline const char *name_of(const Heuristic *to, int32_t loop) {
    return to->kernel->loops.at[loop].name;
}
static inline bool constant_extent(const Heuristic *to, int32_t loop, int64_t *extent) {
    return index_is_const(to->indices, to->kernel->loops.at[loop].extent, extent);
}
static inline int64_t largest_extent(const Heuristic *to, int32_t loop) {
    return index_high(to->indices, to->kernel->loops.at[loop].extent);
}
// Vectors along a loop, written out if there are several.
void add_vectors(Heuristic *to, const char *loop, bool several);
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
// What the product reads of a buffer is contiguous along `loop`.
bool moves_by_one(const Heuristic *to, const Product *product, int32_t buffer, int32_t loop);
bool columns_are_contiguous(const Heuristic *to, const Product *product);
bool find_product_over(const Heuristic *to, int32_t rows, Product *product);
// Products in the same loops, at most as many; their number, 0 if the kernel is none of those.
int find_products(const Heuristic *to, int32_t rows, int most, Product *product);

void set_words(Heuristic *to, const Product *product);        // i j k r z s a b o u
void set_tile(Heuristic *to, int64_t rows, int64_t columns);  // m n
// Rows of the tile where rows are padded to whole ones: those that pad little. A row less is a
// register of b used less often, about 3 %.
int64_t padded_tile(int64_t rows, int64_t most);
// A core decodes less at a time while its other thread runs; then a loop's own instructions and the
// place of its code count. So as many steps of the innermost sum are written in a row as make 64
// FMAs (docs/11-measured.md).
void add_unrolled(Heuristic *to, const char *sum, int64_t tile);

// heuristic_images.c: for convolutions; NULL: not one of those.
const char *image_schedule(Heuristic *to);

// heuristic_weights.c: for kernels that read weights (out, in); NULL: not one of those. The same
// tiles for other operands (in, out).
const char *weights_schedule(Heuristic *to);
const char *flat_schedule(Heuristic *to);

// heuristic_tiles.c: a product of matrices on a unit of tiles.
const char *tiles_schedule(Heuristic *to);

// heuristic_gpu.c: for GPUs
enum { WIDE = 4 };  // elements that a thread moves at once
// One loop in place of several; its name.
const char *add_fused(Heuristic *to, const int32_t *loop, int loops);
const char *gpu_schedule(Heuristic *to);
const char *gpu_plain_schedule(Heuristic *to);

// heuristic_gpu_tiles.c: products as tiles.
// A tile of the result that a block computes, a slice of the sum at a time.
typedef struct {
    int rows, columns;  // of the tile
    int depth;          // of a slice
    int threads;
    // On FP32 units a thread has 4 x 4 elements in each of these; on tensor cores it is a warp's.
    int inner_rows, inner_columns;
    double cost;  // of an element of the result, in those of the largest tile: of shared
                  // memory, or of L2
} GpuTile;

typedef struct {
    int32_t loop[CHAIN_MAX];  // outermost first, but one whose extent is a VAR's before all others
    int count, vars;          // vars: so many of such
    int64_t size;             // of all their iterations, VARs at their bounds
} Side;
typedef struct {
    Product product;
    Side rows, columns, around, sum;
    GpuTile tile;
    int64_t parts;  // of the sum, each a block's; a second launch adds them up
    int64_t group;  // so many rows of tiles are done before the next column of tiles; 1: one
    int64_t walk;   // tiles of a block, one after another
    bool laid_out;  // the columns' operand is a weight, which is laid out at load
    bool bulk;      // and whose slices the copy engine copies
} Tiling;
// LAID_OUT, BULK: of weights alone. WHOLE: where the usual ones are in parts, in one. WALKING: as
// many blocks as multiprocessors.
typedef enum { TILES_USUAL, TILES_LAID_OUT, TILES_BULK, TILES_WHOLE, TILES_WALKING } TileForm;
// With the tile of these that is best. NULL: there are none of that form.
typedef void AddTile(Heuristic *to, const Tiling *tiling);
const char *tile_schedule_of(Heuristic *to, TileForm form, int tiles, const GpuTile *tile,
                             AddTile *add_tile);
bool is_along_sum(const Heuristic *to, const Tiling *tiling, int32_t buffer, const Side *side);
void find_blocks(Heuristic *to, const Tiling *tiling);  // $g $h $o
void add_blocks(Heuristic *to, const Tiling *tiling);
void add_side_copy(Heuristic *to, const Tiling *tiling, int32_t buffer, const Side *side, int rows,
                   const char *loops, const char *sums);
// Of weights: laid out at load. NULL: not one of those.
const char *gpu_weight_bulk_schedule(Heuristic *to);
const char *gpu_weight_pipelined_schedule(Heuristic *to);
const char *gpu_weight_schedule(Heuristic *to);
const char *gpu_pipelined_schedule(Heuristic *to);
const char *gpu_tile_schedule(Heuristic *to);
const char *gpu_whole_schedule(Heuristic *to);
const char *gpu_walking_schedule(Heuristic *to);

// heuristic_wgmma.c: such tiles on a GPU that has it
const char *wgmma_weight_schedule(Heuristic *to);
const char *wgmma_pipelined_schedule(Heuristic *to);
const char *wgmma_through_schedule(Heuristic *to);
const char *wgmma_tile_schedule(Heuristic *to);

// heuristic_attention.c, heuristic_attention_gpu.c: of what online() made.
const char *attention_schedule(Heuristic *to);
const char *gpu_attention_schedule(Heuristic *to);
#endif
