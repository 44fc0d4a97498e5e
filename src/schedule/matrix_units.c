/* matrix_units.c - what multiplies matrices, as rows of data.
 * In: a name.  Out: the largest tile of accumulators that its registers hold, beside the operands.
 *   avx2_fma: 16 registers of 8 lanes, 12 hold a 6 x 16 tile, 2 a row of b, 1 an element of a */
#include "schedule/schedule.h"

#include <string.h>

static const MatrixUnit units[] = {
    {"avx512_fma", 14, 32, 16},  // 28 of 32 registers
    {"avx2_fma", 6, 16, 8},      // 12 of 16 registers
};

const MatrixUnit *matrix_unit_find(const char *name) {
    for (int i = 0; i < COUNT_OF(units); i++)
        if (!strcmp(units[i].name, name)) return &units[i];
    return NULL;
}
