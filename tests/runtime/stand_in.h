/* stand_in.h - a GPU for tests on machines without one: driver.c and compiler.c as libraries. */
#ifndef PICOGRAD_TESTS_STAND_IN_H
#define PICOGRAD_TESTS_STAND_IN_H
#include <stdint.h>

#define STAND_IN_CUBIN "a cubin of tests/runtime/compiler.c\n"

// What the driver was asked for so far.
typedef struct {
    int64_t launches, graphs, changes, graph_launches;
    int64_t bytes_there, bytes_here;  // copied
} StandInCounts;

// Builds both and has this process use them, with so many bytes of memory there, and a cache folder
// of its own; skips the test if it cannot. Once a process.
StandInCounts *stand_in(int64_t bytes);
#endif
