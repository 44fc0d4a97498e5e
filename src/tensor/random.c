/* random.c - random numbers that are a pure function of a seed and an element's place.
 * In: a seed (the next of the thread's own, or a tensor), a shape.  Out: bits, uniform, normal.
 * Invariant: only wrapping u32 operations lead to the bits, so they are the same everywhere.
 *   bits of element i  =  the first word of threefry(key = seed's two words, counter = (i, 0))
 * Source: J. Salmon and others, Parallel Random Numbers: As Easy as 1, 2, 3 (2011).              */
#include "tensor/tensor.h"

#include <math.h>

static _Thread_local uint64_t own_seed;

void pg_seed(uint64_t seed) { own_seed = seed; }

static PgTensor *word(uint32_t value) {
    return tensor_view(node_const_int(graph_now(), DT_U32, (Shape){0}, value));
}

static PgTensor *rotate(PgTensor *x, uint32_t by) {
    return pg_or(pg_shl(x, word(by)), pg_shr(x, word(32 - by)));
}

// One of the words, without the order of its bytes in memory.
static PgTensor *key_word(PgTensor *seed, int number) {
    PgTensor *wide = pg_shr(pg_cast(seed, PG_I64), pg_scalar(32 * number));
    return pg_cast(pg_and(wide, pg_scalar(0xffffffff)), PG_U32);
}

void threefry(PgTensor *const key[2], PgTensor *const counter[2], PgTensor *out[2]) {
    static const uint32_t rotation[8] = {13, 15, 26, 6, 17, 29, 16, 24};
    PgTensor *parity = pg_xor(pg_xor(key[0], key[1]), word(0x1bd11bda));
    PgTensor *schedule[3] = {key[0], key[1], parity};
    PgTensor *x = pg_add(counter[0], key[0]), *y = pg_add(counter[1], key[1]);
    for (uint32_t round = 0; round < 20; round++) {
        x = pg_add(x, y);
        y = pg_xor(rotate(y, rotation[round % 8]), x);
        if (round % 4 != 3) continue;
        uint32_t step = round / 4 + 1;
        x = pg_add(x, schedule[step % 3]);
        y = pg_add(pg_add(y, schedule[(step + 1) % 3]), word(step));
    }
    out[0] = x;
    out[1] = y;
}

// 0, 1, 2 ... in row-major order.
static PgTensor *places(Shape shape) {
    int64_t count = shape_capacity(graph_indices(graph_now()), shape);
    for (int i = 0; i < shape.rank; i++)
        if (size_is_symbolic(shape.size[i]))
            fatal("random: the size of axis %d is symbolic. Hint: draw for the largest, then slice",
                  i);
    if (count > UINT32_MAX) fatal("random: %lld elements are over 2^32", (long long)count);
    return pg_reshape(pg_arange(PG_U32, 0, count, 1), shape.rank, shape.size);
}

// Two words for each element.
static void draw(PgTensor *seed, int rank, const int64_t *shape, PgTensor *out[2]) {
    Shape full = shape_from("random", rank, shape);
    if (!seed)
        must_not_trace("random", "give a seed tensor, or every call would draw the same numbers");
    PgTensor *key[2];
    for (int i = 0; i < 2; i++)
        key[i] = seed ? key_word(seed, i) : word((uint32_t)(own_seed >> 32 * i));
    if (!seed)
        own_seed++;
    else if (pg_rank(seed) != 0 || dtypes[pg_type(seed)].kind == KIND_FLOAT)
        fatal("random: the seed is %s of shape %s. Hint: an integer scalar",
              dtypes[pg_type(seed)].text, shape_name(tensor_in(seed)));
    PgTensor *counter[2] = {places(full), word(0)};
    threefry(key, counter, out);
}

PgTensor *pg_random_bits(PgTensor *seed, int rank, const int64_t *shape) {
    PgTensor *words[2];
    compose_begin();
    draw(seed, rank, shape, words);
    return compose_end(words[0]);
}

// The 24 bits that an f32 holds, as a multiple of 2^-24.
static PgTensor *unit(PgTensor *bits) {
    return scaled(pg_cast(pg_shr(bits, word(8)), PG_F32), 0x1p-24);
}

PgTensor *pg_rand(PgTensor *seed, int rank, const int64_t *shape) {
    PgTensor *words[2];
    compose_begin();
    draw(seed, rank, shape, words);
    return compose_end(unit(words[0]));
}

// Box and Muller: a radius from one word, an angle from the other; 1 - unit is never 0.
PgTensor *pg_randn(PgTensor *seed, int rank, const int64_t *shape) {
    PgTensor *words[2];
    compose_begin();
    draw(seed, rank, shape, words);
    PgTensor *distance = pg_sub(pg_scalar(1), unit(words[0]));
    PgTensor *radius = pg_sqrt(scaled(pg_log(distance), -2));
    return compose_end(pg_mul(radius, pg_sin(scaled(unit(words[1]), 2 * M_PI))));
}

PgTensor *pg_dropout(PgTensor *seed, PgTensor *x, double probability) {
    if (!(probability >= 0 && probability < 1))
        fatal("dropout: a probability of %g. Hint: from 0 to below 1", probability);
    Shape shape = shape_at(tensor_in(x));
    compose_begin();
    PgTensor *drop = pg_lt(pg_rand(seed, shape.rank, shape.size), pg_scalar(probability));
    return compose_end(pg_where(drop, pg_scalar(0), scaled(x, 1 / (1 - probability))));
}
