/* library.h - the code that is compiled once for each instruction set: the chunk operations of the
 * interpreter, the matmul of eager mode, and the machine's roofs. Each C file of this folder is one
 * object per ISA, its public names ending in it (PG_SUFFIX); ../library.c picks the best row that
 * the CPU has. */
#ifndef PICOGRAD_LIBRARY_H
#define PICOGRAD_LIBRARY_H
#include "runtime/chunk.h"
#include "runtime/runtime.h"

// The functions of chunk.h.
typedef struct {
    void (*map)(Op op, DType dtype, int count, const void *x, const void *y, const void *z,
                void *to);
    void (*where)(DType dtype, int count, const uint8_t *condition, const void *y, const void *z,
                  void *to);
    void (*cast)(DType from, DType into, int count, const void *x, void *to);
    void (*fold)(Op fold, DType dtype, int count, void *x);
    void (*fill)(DType dtype, int count, const void *value, void *to);
    void (*read)(DType dtype, const Patch *patch, const void *from, void *to);
    void (*write)(DType dtype, const Patch *patch, const void *x, void *to);
} ChunkFunctions;

typedef struct {
    const char *name;  // the target's
    const ChunkFunctions *chunk;
    const RoofFunctions *roof;
    void (*matmul)(const Matmul *matmul);
} Library;

// The target's row. The rows after it run on this CPU, too; a row without a name ends them.
const Library *library(void);

#define LIBRARY_JOIN(name, suffix)   name##_##suffix
#define LIBRARY_EXPAND(name, suffix) LIBRARY_JOIN(name, suffix)
#define LIBRARY_NAME(name)           LIBRARY_EXPAND(name, PG_SUFFIX)  // matmul_avx2
#endif
