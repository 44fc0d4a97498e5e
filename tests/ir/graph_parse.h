/* graph_parse.h - graphs from text, for tests: what graph_print writes is read again. */
#ifndef PICOGRAD_TESTS_GRAPH_PARSE_H
#define PICOGRAD_TESTS_GRAPH_PARSE_H
#include "ir/ir.h"

typedef struct {
    Graph *graph;
    int outputs;
    Id *output;
} GraphProgram;
GraphProgram graph_parse(Arena *arena, const char *name, const char *text);
#endif
