/* kernel_tile.c - a tile loop: which instruction of a matrix unit the loops and their store are.
 * In: a kernel, a loop.  Out: its kind, and where its tiles lie; or what is wrong with it.
 * Invariant: a tile is dense and whole: 16 rows of 64 bytes, a row behind the other in its register
 * buffer, rows at any distance in memory.
 *   tile for r < 16 { for c < 16 { s[256*t + 16*r + c] = m[80*r + c] } }
 *   =>   LOAD s[256*t], from m[0], stride 80                                                     */
#include "ir/ir.h"

enum { WARP_DEPTH = 6, DEPTH_MAX };
typedef struct {
    const Kernel *kernel;
    const Statement *store;
    int32_t loop[DEPTH_MAX];
    int loops;
} Nest;

static bool find_nest(Nest *nest, const Statement *at) {
    for (; at && at->kind == STATEMENT_LOOP; at = at->body) {
        const Loop *loop = &nest->kernel->loops.at[at->loop];
        bool alone = !nest->loops || (!at->next && loop->kind == LOOP_SERIAL);
        if (!alone || loop->limit >= 0 || nest->loops == DEPTH_MAX) return false;
        nest->loop[nest->loops++] = at->loop;
    }
    nest->store = at;
    return at && at->kind == STATEMENT_STORE && !at->next &&
           (at->condition < 0 || at->role == ROLE_ASYNC);
}

// The index moves with the loops by these strides; `first` is where it starts.
static bool moves(const Nest *nest, Index index, const int64_t *stride, Index *first) {
    IndexTable *table = graph_indices(nest->kernel->graph);
    for (int i = 0; i < nest->loops; i++) {
        int64_t by;
        if (!index_stride(table, index, nest->loop[i], &by) || by != stride[i]) return false;
        index = index_replace(table, index, ATOM_LOOP, nest->loop[i], index_const(table, 0));
    }
    *first = index;
    return true;
}

static bool has_extents(const Nest *nest, const int64_t *extent, int loops) {
    IndexTable *table = graph_indices(nest->kernel->graph);
    int64_t is;
    if (nest->loops != loops) return false;
    for (int i = 0; i < loops; i++)
        if (!index_is_const(table, nest->kernel->loops.at[nest->loop[i]].extent, &is) ||
            is != extent[i])
            return false;
    return true;
}

static bool in_registers(const Nest *nest, int32_t buffer) {
    return nest->kernel->buffers.at[buffer].space == SPACE_REGISTER;
}

static const Node *plain_load(const Nest *nest, Id value) {
    const Node *node = graph_node(nest->kernel->graph, value);
    return node->op == OP_LOAD && !node->sources ? node : NULL;
}

// A row of 16 floats, or of 32 bf16.
static const char *copy_of(const Nest *nest, const Node *load, TileUse *tile) {
    const Statement *store = nest->store;
    DType dtype = (DType)load->dtype;
    int64_t columns = UNIT_BYTES / dtypes[dtype].bytes, stride = 0;
    bool loads = in_registers(nest, store->buffer);
    int32_t from = (int32_t)load->arg[0];
    Index kept = loads ? store->index : (Index)load->arg[1],
          other = loads ? (Index)load->arg[1] : store->index;
    if (loads == in_registers(nest, from)) return "a tile is copied to or from a register buffer";
    if ((dtype != DT_F32 && dtype != DT_BF16) ||
        !has_extents(nest, (int64_t[]){UNIT_ROWS, columns}, 2))
        return "a tile is 16 rows of 16 f32 or 32 bf16";
    *tile = (TileUse){.kind = loads ? TILE_LOAD : TILE_STORE,
                      .buffer = {loads ? store->buffer : from, -1, -1},
                      .memory = loads ? from : store->buffer};
    index_stride(graph_indices(nest->kernel->graph), other, nest->loop[0], &stride);
    tile->stride = stride;
    bool fits = moves(nest, kept, (int64_t[]){columns, 1}, &tile->first[0]) &&
                moves(nest, other, (int64_t[]){stride, 1}, &tile->from);
    return fits ? NULL : "its elements are not rows of a tile";
}

static const char *product_of(const Nest *nest, const Node *fma, TileUse *tile) {
    static const int64_t strides[3][4] = {{16, 1, 0, 0}, {32, 0, 2, 1}, {0, 2, 32, 1}};
    const Graph *graph = nest->kernel->graph;
    *tile = (TileUse){.kind = TILE_PRODUCT, .memory = -1};
    if (!has_extents(nest, (int64_t[]){UNIT_ROWS, UNIT_ROWS, UNIT_ROWS, 2}, 4))
        return "a product of tiles has loops of 16, 16, 16 and 2";
    for (int i = 0; i < 3; i++) {
        const Node *node = graph_node(graph, fma->source[(i + 2) % 3]);  // the sum comes last
        bool wide = i > 0 && node->op == OP_CAST && node->dtype == DT_F32;
        const Node *load =
            i && !wide ? NULL : plain_load(nest, wide ? node->source[0] : fma->source[2]);
        if (!load || load->dtype != (i ? DT_BF16 : DT_F32))
            return "a product of tiles is of bf16, its sum f32";
        tile->buffer[i] = (int32_t)load->arg[0];
        if (!in_registers(nest, tile->buffer[i]) ||
            !moves(nest, (Index)load->arg[1], strides[i], &tile->first[i]))
            return "its elements are not those of tiles in registers";
    }
    bool sums = nest->store->buffer == tile->buffer[0] &&
                nest->store->index == (Index)graph_node(graph, fma->source[2])->arg[1];
    return sums ? NULL : "it adds to another element than it stores";
}

// x of a sum, a or b is a load of f32 that moves so.
static const char *check_factor(const Nest *nest, const Node *fma, int which, const int64_t *stride,
                                TileUse *tile) {
    const Node *load = plain_load(nest, fma->source[(which + 2) % 3]);  // the sum comes last
    if (!load || load->dtype != DT_F32) return "a warp's product is of f32 that is loaded as it is";
    tile->buffer[which] = (int32_t)load->arg[0];
    return moves(nest, (Index)load->arg[1], stride, &tile->first[which])
               ? NULL
               : "its elements are not where a warp's threads hold them";
}

static const char *check_sum(const Nest *nest, const Node *fma, const TileUse *tile) {
    const Node *sum = graph_node(nest->kernel->graph, fma->source[2]);
    bool same = nest->store->buffer == tile->buffer[0] && nest->store->index == (Index)sum->arg[1];
    return same ? NULL : "it adds to another element than it stores";
}

static const char *warp_product_of(const Nest *nest, const Node *fma, TileUse *tile) {
    static const int64_t strides[3][6] = {
        {64, 8, 2, 1, 0, 0}, {32, 4, 0, 0, 64, 1}, {0, 0, 8, 4, 32, 1}};
    *tile = (TileUse){.kind = TILE_WARP, .memory = -1};
    if (!has_extents(nest, (int64_t[]){2, 8, 4, 2, 2, 4}, 6))
        return "a warp's product has loops of 2, 8, 4, 2, 2 and 4";
    for (int i = 0; i < 3; i++) {
        const char *wrong = check_factor(nest, fma, i, strides[i], tile);
        if (wrong) return wrong;
        if (!in_registers(nest, tile->buffer[i])) return "a warp's product is of registers";
    }
    return check_sum(nest, fma, tile);
}

// ---- a product of four warps -------------------------------------------------------------------

// What descriptors of shared memory can say: multiples of 16 bytes, below 2^18 ("Asynchronous
// Warpgroup Level Matrix Shared Memory Layout, Matrix Descriptor Format").
static bool is_described(int64_t elements) {
    enum { WHOLE = 4, END = 1 << 16 };
    return elements > 0 && elements < END && elements % WHOLE == 0;
}

// All warps of a group come to the loop, as often; the element of b is the same in all of them.
static const char *check_group(const Nest *nest, const Statement *tile_loop, Index first) {
    const Kernel *kernel = nest->kernel;
    IndexTable *table = graph_indices(kernel->graph);
    const Statement *around = kernel_around(kernel, tile_loop, LOOP_WARP);
    int64_t warps;
    if (!around || !index_is_const(table, kernel->loops.at[around->loop].extent, &warps) ||
        warps % WARPGROUP_WARPS || warps > BLOCK_THREADS_MAX / WARP_THREADS ||
        kernel->loops.at[around->loop].limit >= 0)
        return "a product of four warps is in a warp loop of a multiple of 4";
    for (const Statement *at = kernel_parent(kernel, tile_loop); at != around;
         at = kernel_parent(kernel, at)) {
        const Loop *loop = &kernel->loops.at[at->loop];
        if (loop->kind == LOOP_THREAD || loop->kind == LOOP_VECTOR ||
            (loop->limit >= 0 && index_uses(table, loop->limit, ATOM_LOOP, around->loop)))
            return "its four warps would not all come to it";
    }
    for (int64_t warp = 0; warp < warps; warp++) {
        Index of = index_const(table, warp),
              leader = index_const(table, warp - warp % WARPGROUP_WARPS);
        if (index_replace(table, first, ATOM_LOOP, around->loop, of) !=
            index_replace(table, first, ATOM_LOOP, around->loop, leader))
            return "its four warps read different elements of b";
    }
    return NULL;
}

// b lies in the memory of one launch's blocks, from a whole 16 bytes on.
static const char *check_shared(const Nest *nest, const Statement *tile_loop, const TileUse *tile) {
    const Kernel *kernel = nest->kernel;
    IndexTable *table = graph_indices(kernel->graph);
    int64_t rest;
    AccessList all =
        kernel_accesses(graph_arena(kernel->graph), kernel, kernel->body, tile->buffer[2]);
    bool here = kernel->buffers.at[tile->buffer[2]].space == SPACE_SHARED;
    for (int i = 0; i < all.count; i++)
        here &= kernel_around(kernel, all.at[i].statement, LOOP_BLOCK) ==
                kernel_around(kernel, tile_loop, LOOP_BLOCK);
    if (!here) return "a product of four warps reads b from the block's shared memory";
    if (!is_described(tile->apart[0]) || !is_described(tile->apart[1]) ||
        !index_is_const(table, index_mod(table, tile->first[2], 4), &rest) || rest)
        return "b is not in pieces of 8 columns by 4 elements, multiples of 16 bytes apart";
    return check_group(nest, tile_loop, tile->first[2]);
}

static const char *group_product_of(const Nest *nest, const Statement *tile_loop, const Node *fma,
                                    TileUse *tile) {
    int64_t strides[3][DEPTH_MAX] = {
        {128, 64, 8, 2, 1, 0, 0}, {0, 32, 4, 0, 0, 64, 1}, {0, 0, 0, 8, 4, 0, 1}};
    IndexTable *table = graph_indices(nest->kernel->graph);
    int64_t groups = 0;
    const Node *b = plain_load(nest, fma->source[1]);
    *tile = (TileUse){.kind = TILE_WARPGROUP, .memory = -1};
    index_is_const(table, nest->kernel->loops.at[nest->loop[0]].extent, &groups);
    if (groups < 1 || groups > WARPGROUP_COLUMNS_MAX / 8 ||
        !has_extents(nest, (int64_t[]){groups, 2, 8, 4, 2, 2, 4}, DEPTH_MAX))
        return "a product of four warps has loops of 1 to 32, 2, 8, 4, 2, 2 and 4";
    tile->columns = 8 * groups;
    tile->apart[1] = 32;
    if (groups == 1) strides[0][0] = 0;  // an index does not know of such a loop
    if (b && index_stride(table, (Index)b->arg[1], nest->loop[5], &tile->apart[0]))
        strides[2][5] = tile->apart[0];
    if (b && groups > 1 && index_stride(table, (Index)b->arg[1], nest->loop[0], &tile->apart[1]))
        strides[2][0] = tile->apart[1];
    for (int i = 0; i < 3; i++) {
        const char *wrong = check_factor(nest, fma, i, strides[i], tile);
        if (wrong) return wrong;
        if (i < 2 && !in_registers(nest, tile->buffer[i]))
            return "a product of four warps has its sum and a in registers";
    }
    const char *wrong = check_shared(nest, tile_loop, tile);
    return wrong ? wrong : check_sum(nest, fma, tile);
}

static bool in_grains(const Kernel *kernel, Index index, int64_t grain) {
    IndexTable *table = graph_indices(kernel->graph);
    const Term *terms;
    int count = index_terms(table, index, &terms);
    bool all = index_constant(table, index) % grain == 0;
    for (int i = 0; i < count; i++) all &= terms[i].scale % grain == 0;
    return all;
}

static const char *bulk_of(const Nest *nest, const Node *load, TileUse *tile) {
    const Statement *store = nest->store;
    int64_t grain = BULK_GRAIN / dtypes[load->dtype].bytes;
    LoopSet decide = {0};
    *tile = (TileUse){
        .kind = TILE_BULK, .buffer = {store->buffer, -1, -1}, .memory = (int32_t)load->arg[0]};
    if (store->condition >= 0) decide = kernel_loops_of(nest->kernel, store->condition);
    if (nest->loops != 1 || loop_set_has(&decide, nest->loop[0]) ||
        !moves(nest, store->index, (int64_t[]){1}, &tile->first[0]) ||
        !moves(nest, (Index)load->arg[1], (int64_t[]){1}, &tile->from) ||
        !index_is_const(graph_indices(nest->kernel->graph),
                        nest->kernel->loops.at[nest->loop[0]].extent, &tile->stride))
        return "a bulk copy is one run of memory";
    bool whole = tile->stride % grain == 0 && in_grains(nest->kernel, tile->first[0], grain) &&
                 in_grains(nest->kernel, tile->from, grain);
    return whole ? NULL : "a bulk copy is of 16 bytes or more, aligned";
}

const char *kernel_tile(const Kernel *kernel, const Statement *loop, TileUse *tile) {
    Nest nest = {.kernel = kernel};
    if (!find_nest(&nest, loop)) return "a tile loop holds plain loops and one store";
    const Node *value = graph_node(kernel->graph, nest.store->value);
    if (value->op == OP_FMA && nest.loops == DEPTH_MAX)
        return group_product_of(&nest, loop, value, tile);
    if (value->op == OP_FMA && nest.loops == WARP_DEPTH) return warp_product_of(&nest, value, tile);
    if (value->op == OP_FMA) return product_of(&nest, value, tile);
    const Node *load = plain_load(&nest, nest.store->value);
    if (load && nest.store->role == ROLE_ASYNC) return bulk_of(&nest, load, tile);
    return load ? copy_of(&nest, load, tile) : "a tile is loaded, stored, or a sum of products";
}

const Statement *kernel_tile_around(const Kernel *kernel, const Statement *statement) {
    while (statement && !(statement->kind == STATEMENT_LOOP &&
                          kernel->loops.at[statement->loop].kind == LOOP_TILE))
        statement = kernel_parent(kernel, statement);
    return statement;
}
