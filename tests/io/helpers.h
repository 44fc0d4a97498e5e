/* helpers.h - what the tests of io share: temporary folders, golden files, a small vocabulary. */
#ifndef PICOGRAD_TESTS_IO_HELPERS_H
#define PICOGRAD_TESTS_IO_HELPERS_H
#include "io/io.h"

typedef struct {
    TextSpan *at;
    int count;
} Lines;

const char *temporary_folder(void);  // one a process; removed at its end
const char *temporary_path(Arena *arena, const char *name);
Lines golden_lines(Arena *arena, const char *name);  // of tests/io/golden
TextSpan unescape(Arena *arena, TextSpan line);      // \xNN to the byte
const char *terminated(Arena *arena, TextSpan span);
// A GGUF file without tensors, with the trained vocabulary of golden/vocabulary.txt.
Gguf *small_vocabulary(Arena *arena, const char *rule);
GgufWriter *small_vocabulary_writer(Arena *arena, const char *rule);
// Writes, opens again; NULL if it is refused.
Gguf *reopened(Arena *arena, GgufWriter *writer);
// Fails the test if a tokenizer is refused; skips it without the libraries that it needs.
Tokenizer *opened_tokenizer(const Gguf *gguf);
// "1 2 3"; fails the test if encoding does.
const char *encoded(Arena *arena, const Tokenizer *tokenizer, TextSpan text, int flags);
TextSpan span(const char *text);
// Every line of texts.txt has the ids of the same line of ids-NAME.txt.
void check_golden_ids(const Tokenizer *tokenizer, const char *name, int flags);
// A line for each of 4096 code points, as line_of in make_tokenizer_golden.py has it.
Text code_point_lines(Arena *arena, int first);
const char *short_sum(Arena *arena, Text text);  // the first 16 digits of its SHA-256
#endif
