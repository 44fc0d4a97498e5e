/* matrix_units.c - what multiplies matrices, as rows of data.
 * In: a name.  Out: how many registers it has and how wide they are, so which tiles fit.
 *   avx2_fma: 16 registers of 8 lanes, 12 hold a 6 x 16 tile, 2 a row of b, 1 an element of a */
#include "schedule/schedule.h"

#include <string.h>

static const MatrixUnit units[] = {
    {"amx_bf16", 8, 16, 16, 0},
    {"avx512_fma", 32, 16, 1, 0},
    {"avx2_fma", 16, 8, 1, 0},
    {"mma_tf32", 1, 8, 16, 1},
    {"wgmma_tf32", WARPGROUP_COLUMNS_MAX / 8, 8, WARPGROUP_ROWS, WARPGROUP_WARPS},
};

const MatrixUnit *matrix_unit_find(const char *name) {
    for (int i = 0; i < COUNT_OF(units); i++)
        if (!strcmp(units[i].name, name)) return &units[i];
    return NULL;
}
