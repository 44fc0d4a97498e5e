/* packed.c - weights that stay packed, as tensor ops over their bytes.
 * In: a format's row (blocks.c) and blocks in memory.  Out: an f32 tensor that reads them where it
 * is used.
 * Invariant: value = scale * code + offset, scale and offset constant along the axes in a group, so
 * that they can leave a sum over it; nothing but primitive ops over one u8 BUFFER (blocks, bytes),
 * never realised as a whole.
 *   Q4_1 (rows, 64) in u8 (2 * rows, 20)  =>  f16 at 0 * (nibble of bytes 4..19) + f16 at 2      */
#include "io/io.h"
#include "tensor/tensor.h"

#include <string.h>

// A value has the shape (blocks, axes of the layout), a group's number the first of them.
typedef struct {
    const GgufFormat *format;
    const BlockLayout *layout;
    Id blocks;  // u8 (blocks, bytes)
} Unpacking;

static Id with_number(Op op, Id x, double number) {
    return node_binary(graph_now(), op, x, constant(dtype_at(x), shape_at(x), number));
}

static Id split_axis(Id x, int axis, int64_t inner) {
    Shape shape = shape_at(with_axis(x, axis + 1));
    shape.size[axis] /= inner;
    shape.size[axis + 1] = inner;
    return node_reshape(graph_now(), x, shape);
}

// (blocks, first `axes` axes), sizes of 1 where the byte does not change along an axis. The bytes'
// axis is split by one step after the other, the largest first.
static Id field_bytes(const Unpacking *to, int axes, const BlockField *field) {
    Id view = to->blocks;
    int at = field->at / 8, place = 1, order[RANK_MAX] = {0}, below = to->format->bytes;
    for (int next = 0; next >= 0;) {
        next = -1;
        for (int i = 0; i < axes; i++) {
            int step = field->step[i] / 8;
            if (step && step < below && (next < 0 || step > field->step[next] / 8)) next = i;
        }
        if (next < 0) break;
        below = field->step[next] / 8;
        view = shrink_axis(view, place, at, (int64_t)below * to->layout->axis[next]);
        view = split_axis(view, place, below);
        order[next + 1] = place++;
        at = 0;
    }
    view = without_axes(shrink_axis(view, place, at, 1), 1u << place);
    for (int i = 1; i <= axes; i++) {
        if (order[i]) continue;
        view = with_axis(view, place);
        order[i] = place++;
    }
    return node_permute(graph_now(), view, order);
}

// How far right the field's bits are to be moved; -1: they are where they belong.
static Id field_shift(int axes, const BlockField *field, Shape shape) {
    Id shift = -1;
    if (field->at % 8) shift = constant(DT_U8, shape, field->at % 8);
    for (int i = 0; i < axes; i++) {
        int step = field->step[i] % 8;
        if (!step) continue;
        Id part = with_number(OP_MUL, node_iota(graph_now(), DT_U8, shape, i + 1), step);
        shift = shift < 0 ? part : node_binary(graph_now(), OP_ADD, shift, part);
    }
    return shift;
}

static Id field_bits(const Unpacking *to, int axes, const BlockField *field) {
    Shape shape = {.rank = 1 + axes, .size[0] = shape_at(to->blocks).size[0]};
    for (int i = 0; i < axes; i++) shape.size[1 + i] = to->layout->axis[i];
    Id bits = broadcast(field_bytes(to, axes, field), shape);
    Id shift = field_shift(axes, field, shape);
    if (shift >= 0) bits = node_binary(graph_now(), OP_SHR, bits, shift);
    if (field->bits < 8) bits = with_number(OP_AND, bits, (1 << field->bits) - 1);
    return field->up ? with_number(OP_SHL, bits, field->up) : bits;
}

// One of 16 bytes, as i32: four of them to a number, chosen by the index's high bits, and of that
// number the byte that its low bits say. A load from a table would not become vectors.
static Id looked_up(const uint8_t *table, Id index) {
    Id word[4], low = with_number(OP_MUL, with_number(OP_AND, index, 3), 8);
    for (int i = 0; i < 4; i++) {
        const uint8_t *at = table + 4 * i;
        uint32_t number = at[0] | at[1] << 8 | at[2] << 16 | (uint32_t)at[3] << 24;
        word[i] = constant(DT_I32, shape_at(index), (int32_t)number);
    }
    Id odd = with_number(OP_CMPNE, with_number(OP_AND, index, 4), 0);
    Id upper = with_number(OP_CMPNE, with_number(OP_AND, index, 8), 0);
    Id chosen = node_where(graph_now(), upper, node_where(graph_now(), odd, word[3], word[2]),
                           node_where(graph_now(), odd, word[1], word[0]));
    return with_number(OP_AND, node_binary(graph_now(), OP_SHR, chosen, low), 255);
}

// As f32. What may be below zero goes by way of i32, which is what kernels compute bytes in.
static Id number_of(const Unpacking *to, int axes, const BlockNumber *number) {
    Id bits = field_bits(to, axes, &number->field[0]);
    if (number->field[1].bits)
        bits = node_binary(graph_now(), OP_OR, bits, field_bits(to, axes, &number->field[1]));
    if (number->is_signed) bits = node_bitcast(graph_now(), bits, DT_I8);
    if (number->zero) bits = node_cast(graph_now(), bits, DT_I32);
    if (number->table) bits = looked_up(number->table, bits);
    if (number->zero) bits = with_number(OP_ADD, bits, -number->zero);
    return node_cast(graph_now(), bits, DT_F32);
}

// An f16 of each block times a number of each group. All of the bytes are seen as halves first:
// memory read under another width needs no copy, a part of it would.
static Id of_group(const Unpacking *to, int at, const BlockNumber *number) {
    Id halves = node_bitcast(graph_now(), to->blocks, DT_F16);
    Id value = node_cast(graph_now(), shrink_axis(halves, 1, at / 2, 1), DT_F32);
    int axes = block_axes(to->layout), groups = to->layout->groups;
    while (shape_at(value).rank < 1 + groups) value = with_axis(value, 1);
    if (groups) {
        Id by = number_of(to, groups, number);
        value = node_binary(graph_now(), OP_MUL, broadcast(value, shape_at(by)), by);
    }
    while (shape_at(value).rank < 1 + axes) value = with_axis(value, shape_at(value).rank);
    return value;
}

static Id unpacked(const Unpacking *to) {
    const BlockLayout *layout = to->layout;
    Id code = number_of(to, block_axes(layout), &layout->code);
    Shape shape = shape_at(code);
    Id scale = broadcast(of_group(to, layout->scale_at, &layout->scale), shape);
    Id value = node_binary(graph_now(), OP_MUL, scale, code);
    if (!layout->offset_at) return value;
    Id offset = of_group(to, layout->offset_at, &layout->offset);
    if (layout->is_negative) offset = with_number(OP_MUL, offset, -1);
    return node_binary(graph_now(), OP_ADD, value, broadcast(offset, shape));
}

static PgTensor *from_groups(const GgufFormat *format, Shape shape, const void *data, size_t beyond,
                             void (*release)(void *owner), void *owner) {
    int64_t blocks = 1;
    if (!shape.rank || shape.size[shape.rank - 1] % format->length)
        fatal("from_blocks: %s needs a last axis in multiples of %d, got %s", format->name,
              format->length, graph_shape_text(graph_now(), shape));
    for (int i = 0; i < shape.rank; i++) blocks *= shape.size[i];
    blocks /= format->length;
    PgTensor *bytes = pg_wrap(PG_U8, PG_SHAPE(blocks, format->bytes), data, beyond, release, owner);
    Unpacking to = {format, &format->layout, tensor_in(bytes)};
    return tensor_view(node_reshape(graph_now(), unpacked(&to), shape));
}

PgTensor *pg_from_blocks(const char *name, int rank, const int64_t *shape, const void *data,
                         size_t beyond, void (*release)(void *owner), void *owner) {
    static const struct {
        int format;
        PgType type;
    } plain[] = {{GGUF_F32, PG_F32}, {GGUF_F16, PG_F16}, {GGUF_BF16, PG_BF16}};
    const GgufFormat *format = gguf_format_named(name);
    if (!format || !format->length) {
        fail("weights in %s are not supported. F32, F16, BF16, Q4_0 to Q8_0, Q2_K to Q6_K, IQ4_NL "
             "and IQ4_XS are",
             name);
        return NULL;
    }
    for (int i = 0; i < COUNT_OF(plain); i++) {
        if (plain[i].format != format->type) continue;
        PgTensor *x = pg_wrap(plain[i].type, rank, shape, data, beyond, release, owner);
        if (plain[i].type == PG_F32) return x;
        return tensor_view(node_cast(graph_now(), tensor_in(x), DT_F32));
    }
    return from_groups(format, shape_from("from_blocks", rank, shape), data, beyond, release,
                       owner);
}
