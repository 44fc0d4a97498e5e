/* leaves.h - what the leaves of a graph are in these tests: PARAM n is rows[n], every VAR is 3. */
#ifndef PICOGRAD_TEST_LEAVES_H
#define PICOGRAD_TEST_LEAVES_H
#include "runtime/runtime.h"

enum { VAR_VALUE = 3 };

static void *row_memory(void *rows, int64_t number) { return ((void *const *)rows)[number]; }

static int64_t var_value(void *rows, int32_t var) {
    (void)rows, (void)var;
    return VAR_VALUE;
}

// rows: an array of pointers.
#define BINDING_TO(rows) \
    { .param = row_memory, .var = var_value, .context = (void *)(uintptr_t)(rows) }

static int64_t elements_of(const Graph *graph, Id id) {
    int64_t count = 1;
    Shape shape = node_shape(graph, id);
    for (int i = 0; i < shape.rank; i++)
        count *= size_is_symbolic(shape.size[i]) ? VAR_VALUE : shape.size[i];
    return count;
}
#endif
