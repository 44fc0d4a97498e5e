/* blocks.c - weights that stay packed, as tensor ops over their bytes.
 * In: a format's name and blocks in memory.  Out: an f32 tensor that reads them where it is used.
 * Invariant: value = scale * code + offset, scale and offset of a block's 32 values; nothing but
 * primitive ops over one u8 BUFFER (..., blocks, bytes), never realised as a whole.
 *   Q4_1 (rows, 64) in u8 (rows, 2, 20)  =>  f16 at 0 * (nibble of bytes 4..19) + f16 at 2       */
#include "tensor/tensor.h"

#include <string.h>

enum { GROUP = 32 };  // values of a block

// Codes are signed bytes, or nibbles: the low ones are the first half of the group.
typedef struct {
    const char *name;
    int bytes;  // of a block
    bool nibbles;
    int codes_at, scale_at;
    int offset_at;  // an f16; -1: the offset is scale * zero
    int zero;
} Format;

static const Format formats[] = {
    {"Q8_0", 34, false, 2, 0, -1, 0},
    {"Q4_0", 18, true, 2, 0, -1, -8},
    {"Q4_1", 20, true, 4, 0, 2, 0},
};

static const struct {
    const char *name;
    PgType type;
} plain[] = {{"F32", PG_F32}, {"F16", PG_F16}, {"BF16", PG_BF16}};

// An f16 of each block, as f32 (..., blocks, 1). All of the bytes are seen as halves first: memory
// read under another width needs no copy, a part of it would.
static Id half_at(Id blocks, int at) {
    int last = shape_at(blocks).rank - 1;
    Id halves = node_bitcast(graph_now(), blocks, DT_F16);
    return node_cast(graph_now(), shrink_axis(halves, last, at / 2, 1), DT_F32);
}

static Id byte_codes(Id blocks, int at) {
    int last = shape_at(blocks).rank - 1;
    Id bytes = node_bitcast(graph_now(), shrink_axis(blocks, last, at, GROUP), DT_I8);
    return node_cast(graph_now(), bytes, DT_F32);
}

// (..., blocks, 2, 16) of the same 16 bytes twice, shifted right by 0 and by 4.
static Id nibble_codes(Id blocks, int at) {
    int last = shape_at(blocks).rank - 1;
    Id bytes = with_axis(shrink_axis(blocks, last, at, GROUP / 2), last);
    Shape shape = shape_at(bytes), group = shape_at(blocks);
    shape.size[last] = 2;
    Id shift = node_iota(graph_now(), DT_U8, shape, last);
    shift = node_binary(graph_now(), OP_MUL, shift, constant(DT_U8, shape, 4));
    Id nibbles = node_binary(graph_now(), OP_SHR, node_expand(graph_now(), bytes, shape), shift);
    nibbles = node_binary(graph_now(), OP_AND, nibbles, constant(DT_U8, shape, 15));
    group.size[last] = GROUP;
    return node_cast(graph_now(), node_reshape(graph_now(), nibbles, group), DT_F32);
}

static Id unpacked(Id blocks, const Format *format) {
    Id codes = format->nibbles ? nibble_codes(blocks, format->codes_at)
                               : byte_codes(blocks, format->codes_at);
    Shape shape = shape_at(codes);
    Id scale = half_at(blocks, format->scale_at), offset = -1;
    if (format->offset_at >= 0) {
        offset = half_at(blocks, format->offset_at);
    } else if (format->zero) {
        Id zero = constant(DT_F32, shape_at(scale), format->zero);
        offset = node_binary(graph_now(), OP_MUL, scale, zero);
    }
    Id value = node_binary(graph_now(), OP_MUL, broadcast(scale, shape), codes);
    return offset < 0 ? value : node_binary(graph_now(), OP_ADD, value, broadcast(offset, shape));
}

static PgTensor *from_groups(const Format *format, int rank, const int64_t *shape, const void *data,
                             size_t beyond, void (*release)(void *owner), void *owner) {
    Shape full = shape_from("from_blocks", rank, shape), blocks = full;
    if (!rank || rank == RANK_MAX || full.size[rank - 1] % GROUP)
        fatal("from_blocks: %s needs a last axis in multiples of %d, got %s", format->name, GROUP,
              graph_shape_text(graph_now(), full));
    blocks.size[rank - 1] /= GROUP;
    blocks.size[blocks.rank++] = format->bytes;
    PgTensor *bytes = pg_wrap(PG_U8, blocks.rank, blocks.size, data, beyond, release, owner);
    return tensor_view(node_reshape(graph_now(), unpacked(tensor_in(bytes), format), full));
}

PgTensor *pg_from_blocks(const char *format, int rank, const int64_t *shape, const void *data,
                         size_t beyond, void (*release)(void *owner), void *owner) {
    for (int i = 0; i < COUNT_OF(plain); i++)
        if (!strcmp(plain[i].name, format)) {
            PgTensor *x = pg_wrap(plain[i].type, rank, shape, data, beyond, release, owner);
            if (plain[i].type == PG_F32) return x;
            return tensor_view(node_cast(graph_now(), tensor_in(x), DT_F32));
        }
    for (int i = 0; i < COUNT_OF(formats); i++)
        if (!strcmp(formats[i].name, format))
            return from_groups(&formats[i], rank, shape, data, beyond, release, owner);
    fail("weights in %s are not supported. F32, F16, BF16, Q8_0, Q4_0 and Q4_1 are", format);
    return NULL;
}
