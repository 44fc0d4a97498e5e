/* fuzz.h - what the fuzz targets share. A target is a file <what>_fuzz.c with fuzz_one: it reads
 * the bytes as the program would, and stops by fuzz_check where an answer is wrong. A fatal that a
 * target does not catch is a finding, too: files are refused, never fatal.
 *   build/tests/fuzz/gguf_fuzz tests/fuzz/corpus/gguf          runs what the folder holds
 *   build/tests/fuzz/gguf_fuzz -max_total_time=60 build/found tests/fuzz/corpus/gguf   changes it
 * Linked with clang's libFuzzer, or with driver.c, which takes the same options.                */
#ifndef PICOGRAD_TESTS_FUZZ_H
#define PICOGRAD_TESTS_FUZZ_H
#include "base/base.h"

void fuzz_one(const uint8_t *data, size_t size);
void fuzz_check(bool holds, const char *what);  // aborts with `what` and error_text()
char *fuzz_text(Arena *arena, const uint8_t *data, size_t size);  // with a final zero
// A file of these bytes; its path stays the same, its content until the next call.
const char *fuzz_file(const uint8_t *data, size_t size);
void fuzz_refused(const char *name);  // error_text() is one line that has `name` in it

// What libFuzzer and driver.c call.
int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
#endif
