/* llama_random.c - random weights in the shapes of known models, to measure speed without a file.
 * In: a shape, a counter of random numbers.  Out: tensors.
 * Invariant: word i of a model's random bits is a function of the seed and i alone, so they
 * are the same on every machine, however many threads share the filling.
 *   random:1b, layer 0, attn_q   =>   (2048, 2048) bf16, of mean 0 and variance 1 / 2048 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/scalar.h"
#include "models/llama.h"

const RandomModel random_models[] = {
    {.name = "random",
     .about = "random weights in the shape of SmolLM2-135M; the words mean nothing",
     .type = GGUF_Q4_1,
     .embedding = GGUF_Q8_0,
     .config = {.layers = 30,
                .width = 576,
                .hidden = 1536,
                .heads = 9,
                .key_heads = 3,
                .head_size = 64,
                .vocabulary = 49152,
                .trained = 8192,
                .epsilon = 1e-5,
                .rope_base = 100000,
                .rope_factor = 1,
                .rope_size = 64}},
    {.name = "random:1b",
     .about = "the same like Llama-3.2-1B, in bf16: 1.2 billion weights, 2.5 GB",
     .type = GGUF_BF16,
     .embedding = GGUF_BF16,
     .config = {.layers = 16,
                .width = 2048,
                .hidden = 8192,
                .heads = 32,
                .key_heads = 8,
                .head_size = 64,
                .vocabulary = 128256,
                .trained = 131072,
                .epsilon = 1e-5,
                .rope_base = 500000,
                .rope_factor = 1,
                .rope_size = 64}},
    {.name = "random:tiny",
     .about = "the same, 16 layers of width 64: what a step costs besides its work",
     .type = GGUF_BF16,
     .embedding = GGUF_BF16,
     .config = {.layers = 16,
                .width = 64,
                .hidden = 256,
                .heads = 4,
                .key_heads = 1,
                .head_size = 16,
                .vocabulary = 256,
                .trained = 8192,
                .epsilon = 1e-5,
                .rope_base = 500000,
                .rope_factor = 1,
                .rope_size = 16}},
};
const int random_model_count = COUNT_OF(random_models);

const RandomModel *random_model_find(const char *name) {
    for (int i = 0; i < random_model_count; i++)
        if (!strcmp(random_models[i].name, name)) return &random_models[i];
    return NULL;
}

// ---- random bits -------------------------------------------------------------------------------
// S. Vigna's splitmix64: number `counter` of a sequence.
static uint64_t random_bits(uint64_t counter) {
    uint64_t z = counter * 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

// Values of mean 0 and variance 1 / columns, so that a product is as large as what it is applied
// to. Bytes of a piece, each from so many words of random bits:
//   Q4_1: f16 scale, f16 offset, codes of 4 bits, 0 to 15: a block of 32
//   Q8_0: f16 scale, codes of 8 bits, -128 to 127: a block of 32
//   BF16: (code - 127.5) * scale of eight codes of 8 bits, 0 to 255
enum { CODES = 256, WORD = sizeof(uint64_t) };
typedef struct {
    uint8_t *data;
    int64_t pieces, piece_bytes, piece_words;
    uint64_t counter;       // of words drawn before
    uint16_t head[2];       // of a block
    int64_t head_bytes;     // 0: no blocks, BF16
    uint16_t value[CODES];  // BF16: of each code
} Filling;

static void fill_piece(const Filling *filling, int64_t piece) {
    uint8_t *at = filling->data + piece * filling->piece_bytes;
    uint64_t counter = filling->counter + (uint64_t)(piece * filling->piece_words);
    memcpy(at, filling->head, (size_t)filling->head_bytes);
    at += filling->head_bytes;
    for (int64_t i = 0; i < filling->piece_words; i++, at += WORD) {
        uint64_t bits = random_bits(++counter);
        memcpy(at, &bits, WORD);
    }
}

static void fill_values(const Filling *filling, int64_t piece) {
    uint16_t *to = (uint16_t *)filling->data + piece * WORD;
    uint64_t bits = random_bits(filling->counter + (uint64_t)piece + 1);
    for (int i = 0; i < WORD; i++, bits >>= 8) to[i] = filling->value[bits & (CODES - 1)];
}

static void fill(void *context, int thread, int threads, Barrier *barrier) {
    const Filling *filling = context;
    int64_t first, last;
    (void)barrier;
    thread_share(filling->pieces, thread, threads, &first, &last);
    for (int64_t i = first; i < last; i++) {
        if (filling->head_bytes)
            fill_piece(filling, i);
        else
            fill_values(filling, i);
    }
}

static void begin_blocks(Filling *filling, const GgufFormat *format, int64_t values, float scale) {
    bool nibbles = format->type == GGUF_Q4_1;
    filling->head[0] = f16_round(scale);
    filling->head[1] = f16_round(-7.5f * scale);
    filling->head_bytes = nibbles ? 4 : 2;
    filling->piece_bytes = format->bytes;
    filling->piece_words = (format->bytes - filling->head_bytes) / WORD;
    filling->pieces = values / format->length;
}

static void begin_values(Filling *filling, int64_t values, float scale) {
    for (int i = 0; i < CODES; i++)
        filling->value[i] = bf16_round(((float)i - 0.5f * (CODES - 1)) * scale);
    filling->piece_bytes = 2 * WORD;
    filling->piece_words = 1;
    filling->pieces = (values + WORD - 1) / WORD;
}

// ---- tensors -----------------------------------------------------------------------------------
static PgTensor *random_matrix(Llama *llama, uint64_t *counter, int64_t rows, int64_t columns) {
    enum { BEYOND = 64 };  // bytes that may be read
    bool embedding = rows == llama->config.vocabulary;
    const GgufFormat *format =
        gguf_format(embedding ? llama->random->embedding : llama->random->type);
    double deviation = format->type == GGUF_Q4_1 ? 4.61 : 73.9;  // of codes: sqrt((n^2 - 1) / 12)
    float scale = (float)(1 / (deviation * sqrt((double)columns)));
    Filling filling = {.counter = *counter};
    if (format->type == GGUF_BF16)
        begin_values(&filling, rows * columns, scale);
    else
        begin_blocks(&filling, format, rows * columns, scale);
    filling.data = calloc((size_t)(filling.pieces * filling.piece_bytes + BEYOND), 1);
    if (!filling.data) {
        fail("no memory for random weights, (%lld, %lld) in %s", (long long)rows,
             (long long)columns, format->name);
        return NULL;
    }
    thread_run(fill, &filling);
    *counter += (uint64_t)(filling.pieces * filling.piece_words);
    llama->weight_bytes += rows * columns / format->length * format->bytes;
    return pg_from_blocks(format->name, PG_SHAPE(rows, columns), filling.data, BEYOND, free,
                          filling.data);
}

// A norm's weights are ones, not to change the size of what passes through.
PgTensor *llama_random_weight(Llama *llama, uint64_t *counter, int64_t rows, int64_t columns) {
    if (rows) return random_matrix(llama, counter, rows, columns);
    llama->weight_bytes += columns * (int64_t)sizeof(float);
    return pg_ones(PG_F32, PG_SHAPE(columns));
}
