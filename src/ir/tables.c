/* tables.c - ops.def and dtypes.def as arrays, and their words back to ids.
 * In: the two tables.  Out: ops[OP_ADD].text is "add"; op_find("add", &op) gives OP_ADD.
 * Invariant: nothing is written here that a table has.                                       */
#include "ir/ir.h"

#include <string.h>

const DTypeInfo dtypes[DT_COUNT] = {
#define DTYPE(name, text, bytes, kind, stored, computed) {#text, bytes, kind, #stored, #computed},
#include "ir/dtypes.def"
#undef DTYPE
};

const OpInfo ops[OP_COUNT] = {
#define OP(name, text, arity, properties, scalar, vector, documentation) \
    {#text, arity, properties, #scalar, #vector, documentation},
#include "ir/ops.def"
#undef OP
};

bool dtype_find(const char *text, DType *dtype) {
    for (int i = 0; i < DT_COUNT; i++) {
        if (strcmp(dtypes[i].text, text) != 0) continue;
        *dtype = (DType)i;
        return true;
    }
    return false;
}

bool op_find(const char *text, Op *op) {
    for (int i = 0; i < OP_COUNT; i++) {
        if (strcmp(ops[i].text, text) != 0) continue;
        *op = (Op)i;
        return true;
    }
    return false;
}

const char *op_args(Op op) {
    static const char *const letters[OP_COUNT] = {
        [OP_CONST] = "c",  [OP_BUFFER] = "nn",     [OP_PARAM] = "n",   [OP_VAR] = "v",
        [OP_IOTA] = "n",   [OP_PERMUTE] = "N",     [OP_PAD] = "SS",    [OP_SHRINK] = "S",
        [OP_FLIP] = "b",   [OP_WINDOW] = "nnnn",   [OP_REDUCE] = "ob", [OP_SCAN] = "on",
        [OP_GATHER] = "n", [OP_SCATTER_ADD] = "n", [OP_ASSIGN] = "nn", [OP_LOAD] = "nx",
        [OP_INDEX] = "x",
    };
    return letters[op] ? letters[op] : "";
}
