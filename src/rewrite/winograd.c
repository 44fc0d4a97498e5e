/* winograd.c - convolutions of 3 x 3 with a quarter of the multiplications, where that pays.
 * In: a graph.  Out: one in which such convolutions are sums over products of transformed tiles.
 * Invariant: what stands for a convolution differs from it in rounding, and where an infinity or a
 * NaN comes up: a rule would be `finite-only`. All of it is made of the ops that were there before.
 *   out[n,o,y,x] = sum over c, v, u of in[n,c,y+v,x+u] w[o,c,v,u]   =>   with 4 x 4 outputs a tile
 *   V[n,c,k,tile] = sum over 36 of image[k,..] in[n,c, 6 x 6 around the tile]
 *   U[k,o,c]      = sum over  9 of filter[k,..] w[o,c,..]
 *   M[k,o,n,tile] = sum over  c of U V                               36 products instead of 144
 *   out[.. i, j]  = sum over 36 of result[4*i+j,k] M[k,..]
 * That is F(4 x 4, 3 x 3) of A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural
 * Networks" (2015), with points 0, 1, -1, 2, -2. Each 2-D transform is one product with a matrix of
 * 36 columns or rows rather than two with 6: what counts is how often memory is passed over.     */
#include "rewrite/rewrite.h"

enum { SEEN = 3, TILE = 4, SIDE = TILE + SEEN - 1, POINTS = SIDE * SIDE };

// ---- the matrices ------------------------------------------------------------------------------
// clang-format off
static const float image_side[] = {4, 0, -5, 0, 1, 0,    0, -4, -4, 1, 1, 0,   0, 4, -4, -1, 1, 0,
                                   0, -2, -1, 2, 1, 0,   0, 2, -1, -2, 1, 0,   0, 4, 0, -5, 0, 1};
static const float filter_side[] = {1 / 4.F, 0, 0,
                                    -1 / 6.F, -1 / 6.F, -1 / 6.F,    -1 / 6.F, 1 / 6.F, -1 / 6.F,
                                    1 / 24.F, 1 / 12.F, 1 / 6.F,     1 / 24.F, -1 / 12.F, 1 / 6.F,
                                    0, 0, 1};
static const float result_side[] = {1, 1, 1, 1, 1, 0,    0, 1, -1, 2, -2, 0,
                                    0, 1, 1, 4, 4, 0,    0, 1, -1, 8, -8, 1};
// clang-format on
static const struct {
    int rows, columns;
    const float *side;
} matrices[WINOGRAD_MATRICES] = {
    {SIDE, SIDE, image_side}, {SIDE, SEEN, filter_side}, {TILE, SIDE, result_side}};

int64_t winograd_matrix(int number, float *out) {
    const float *side = matrices[number].side;
    int rows = matrices[number].rows, columns = matrices[number].columns;
    for (int row = 0; row < rows * rows && out; row++)
        for (int column = 0; column < columns * columns; column++)
            *out++ = side[row / rows * columns + column / columns] *
                     side[row % rows * columns + column % columns];
    return (int64_t)rows * rows * columns * columns;
}

// ---- what is a convolution ---------------------------------------------------------------------
// As conv2d writes it: the sum over axes 3, 6, 7 of a product (n, 1, o, c, y, x, 3, 3).
typedef struct {
    Id image, filters;  // image: below the windows, perhaps padded already
    int64_t images, out, channels, height, width;
} Convolution;

static Id below(const Graph *graph, Id id, Op op) {
    const Node *node = graph_node(graph, id);
    return node->op == op ? node->source[0] : id;
}

static bool find_image(const Graph *graph, Id id, const Size *size, Id *image) {
    static const int axis[] = {0, 3, 4, 5, 6, 7};
    const Node *node = graph_node(graph, below(graph, below(graph, id, OP_EXPAND), OP_RESHAPE));
    if (node->op != OP_WINDOW || node->rank != COUNT_OF(axis)) return false;
    for (int i = 0; i < node->rank; i++)
        if (node->size[i] != size[axis[i]]) return false;
    for (int at = 3; at >= 2; at--, node = graph_node(graph, *image)) {
        if (node->op != OP_WINDOW || node->arg[0] != at || node->arg[1] != SEEN ||
            node->arg[2] != 1 || node->arg[3] != 1)
            return false;
        *image = node->source[0];
    }
    return true;
}

static bool find_filters(const Graph *graph, Id id, const Size *size, Id *filters) {
    enum { STRETCHED = 1 << 0 | 1 << 1 | 1 << 4 | 1 << 5 };
    *filters = below(graph, id, OP_EXPAND);
    const Size *now = graph_node(graph, *filters)->size;
    for (int axis = 0; axis < 8; axis++)
        if (now[axis] != (STRETCHED >> axis & 1 ? 1 : size[axis])) return false;
    return true;
}

static bool find_convolution(const Graph *graph, Id id, Convolution *found) {
    const Node *sum = graph_node(graph, id);
    const Node *product = sum->op == OP_REDUCE ? graph_node(graph, sum->source[0]) : sum;
    if (product == sum || sum->arg[0] != OP_ADD || product->op != OP_MUL ||
        sum->arg[1] != (1 << 3 | 1 << 6 | 1 << 7) || product->rank != 8 || product->size[1] != 1 ||
        product->dtype != DT_F32)
        return false;
    const Size *size = product->size;
    for (int axis = 0; axis < product->rank; axis++)
        if (size_is_symbolic(size[axis]) || size[axis] < 1) return false;
    *found = (Convolution){0, 0, size[0], size[2], size[3], size[4], size[5]};
    for (int i = 0; i < 2; i++)
        if (find_image(graph, product->source[i], size, &found->image) &&
            find_filters(graph, product->source[!i], size, &found->filters))
            return true;
    return false;
}

// ---- whether it pays ---------------------------------------------------------------------------
static int64_t tiles(int64_t places) { return (places + TILE - 1) / TILE; }

// Counted, not measured: what is computed must not depend on how busy a machine was. Operations of
// the transforms take twice as long as those of products, and a byte that passes between kernels
// as long as FLOPS_A_BYTE of them (docs/11-measured.md). Memory beyond LARGEST would be new at each
// call.
static bool pays(const Convolution *of) {
    enum { FLOPS_A_BYTE = 7, TILES_LEAST = 32, LARGEST = 1 << 27 };
    double in = (double)of->channels, out = (double)of->out, each = SEEN * SEEN * in * out,
           places = (double)of->images * (double)(of->height * of->width),
           all = (double)of->images * (double)(tiles(of->height) * tiles(of->width)),
           filters = POINTS * in * out, transformed = POINTS * all * (in + out),
           products = 2 * filters * (all + SEEN * SEEN),
           transforms = 2 * POINTS * all * (POINTS * in + TILE * TILE * out),
           bytes = 4 * ((in + out) * places + each + 2 * (transformed + filters)),
           time = products + 2 * transforms + FLOPS_A_BYTE * bytes;
    return all >= TILES_LEAST && 4 * (transformed + filters) < LARGEST &&
           1.4 * time < 2 * each * places;
}

// ---- what stands for it ------------------------------------------------------------------------
#define SHAPED(id, rank, ...) node_reshape(graph, id, (Shape){rank, {__VA_ARGS__}})

// The sum over `axes` of a times b, which are stretched to each other.
static Id contraction(Graph *graph, Id a, Id b, uint32_t axes) {
    Shape shape = node_shape(graph, a), other = node_shape(graph, b);
    for (int axis = 0; axis < shape.rank; axis++)
        shape.size[axis] = max_i64(shape.size[axis], other.size[axis]);
    a = node_expand(graph, a, shape), b = node_expand(graph, b, shape);
    return node_reduce(graph, OP_ADD, node_binary(graph, OP_MUL, a, b), axes);
}

// What tiles see: the image with zeros behind it, so that tiles are whole.
static Id seen_by_tiles(Graph *graph, const Convolution *of, Id image) {
    Size pad[2][RANK_MAX] = {{0}};
    int64_t whole[] = {tiles(of->height) * TILE + SEEN - 1, tiles(of->width) * TILE + SEEN - 1};
    const Node *node = graph_node(graph, image);
    if (node->op == OP_PAD) {
        for (int i = 0; i < 8; i++) pad[i / 4][i % 4] = node->arg[i];
        image = node->source[0];
    }
    for (int axis = 2; axis < 4; axis++)
        pad[1][axis] = whole[axis - 2] - pad[0][axis] - node_shape(graph, image).size[axis];
    image = node_window(graph, node_pad(graph, image, pad[0], pad[1]), 2, SIDE, TILE, 1);
    return node_window(graph, image, 3, SIDE, TILE, 1);
}

static Id from_tiles(Graph *graph, const Convolution *of, const int64_t *buffer, Shape result) {
    int64_t n = of->images, c = of->channels, o = of->out, k = POINTS;
    int64_t y = tiles(of->height), x = tiles(of->width);
    // Products' places over two axes, as schedules take those of an image.
    int64_t rows = n == 1 ? y : n, columns = n == 1 ? x : y * x;
    Id matrix[WINOGRAD_MATRICES], v, u, m, out;
    for (int i = 0; i < WINOGRAD_MATRICES; i++)
        matrix[i] = node_buffer(graph, DT_F32, shape_of(1, winograd_matrix(i, NULL)), buffer[i],
                                VERSION_READ_ONLY);
    v = SHAPED(seen_by_tiles(graph, of, of->image), 7, n, c, 1, y, x, SIDE, SIDE);
    v = contraction(graph, SHAPED(matrix[0], 7, 1, 1, k, 1, 1, SIDE, SIDE), v, 1 << 5 | 1 << 6);
    v = node_permute(graph, SHAPED(v, 4, n, c, k, y * x), (int[]){2, 0, 3, 1});
    u = contraction(graph, SHAPED(matrix[1], 4, k, 1, 1, SEEN * SEEN),
                    SHAPED(of->filters, 4, 1, o, c, SEEN * SEEN), 1 << 3);
    m = contraction(graph, SHAPED(u, 5, k, o, 1, 1, c), SHAPED(v, 5, k, 1, rows, columns, c),
                    1 << 4);
    m = node_permute(graph, SHAPED(m, 5, k, o, n, y, x), (int[]){2, 1, 3, 4, 0});
    out = contraction(graph, SHAPED(matrix[2], 7, 1, 1, 1, TILE, 1, TILE, k),
                      SHAPED(m, 7, n, o, y, 1, x, 1, k), 1 << 6);
    out = SHAPED(out, 4, n, o, y * TILE, x * TILE);
    if (of->height % TILE || of->width % TILE)  // a kernel's loops are over whole tiles
        out = node_shrink(graph, node_contiguous(graph, out), (Size[4]){0},
                          (Size[]){n, o, of->height, of->width});
    return node_reshape(graph, out, result);
}

Graph *winograd(Arena *arena, const Graph *graph, int outputs, Id *output, const int64_t *buffer,
                bool always) {
    Graph *to = graph_new(arena);
    rewrite_copy_vars(to, graph);
    IdList nodes = graph_nodes(arena, graph, outputs, output, -1);
    Id *map = arena_array(arena, Id, graph_count(graph));
    bool any = false;
    for (int32_t i = 0; i < nodes.count; i++) {
        Convolution found;
        Id id = nodes.at[i];
        map[id] = node_rebuild(to, graph, id, map);
        if (!find_convolution(graph, id, &found) || (!always && !pays(&found))) continue;
        found.image = map[found.image], found.filters = map[found.filters];
        map[id] = from_tiles(to, &found, buffer, node_shape(graph, id));
        any = true;
    }
    for (int i = 0; i < outputs && any; i++) output[i] = map[output[i]];
    return any ? to : NULL;
}
