/* small_files.h - the smallest files that the readers of models and tensors take whole: seeds for
 * the fuzzers, and what tests cut and change. */
#ifndef PICOGRAD_TESTS_SMALL_FILES_H
#define PICOGRAD_TESTS_SMALL_FILES_H
#include "models/models.h"

// Keys of a byte-level vocabulary: the 256 bytes, a few merges, four special tokens.
enum { SMALL_VOCABULARY = 256 + 6 + 4 };
void small_tokenizer(GgufWriter *writer, Arena *arena, const char *rule);
// Keys of one of sentencepiece's vocabularies, "llama" (BPE) or "t5" (unigram, with a map of
// characters that makes A of a): bytes, a few pieces with scores, four special tokens.
void small_pieces(GgufWriter *writer, Arena *arena, const char *model);
// Keys and weights of a llama of one layer, width 32, two heads, one key head.
void small_llama(GgufWriter *writer, Arena *arena, int64_t vocabulary);
// As the writer saves it. The bytes live in the arena.
FileBytes small_gguf(Arena *arena, GgufWriter *writer);
FileBytes small_state(Arena *arena, const Llama *llama, const int32_t *ids);  // its cache, "extra"
// Makes right what no change of a state would come past by chance: the model's name, taken from a
// state of its own, and the sum at the end.
void small_state_right(uint8_t *file, size_t size, FileBytes own);
FileBytes small_safetensors(Arena *arena);  // "a" (2, 3) f32, "b" (4) u8
#endif
