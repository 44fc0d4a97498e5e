/* roofline.h - inside picograd roofline: roofs, and the kernels under them. */
#ifndef PICOGRAD_ROOFLINE_H
#define PICOGRAD_ROOFLINE_H
#include "cli/roof.h"
#include "cli/row.h"

typedef struct {
    const char *program, *name;  // the row or model; the kernel
    int calls;                   // in a run of the program
    double seconds;              // of all of them; the best run's
    double operations, bytes;
    const RoofLevel *level;  // where the program's data lies
    double share;            // of what the roofs allow
} RooflineKernel;
typedef struct {
    Arena *arena;
    Roofs roofs;
    LIST(RooflineKernel) kernels;
} Roofline;
// roofline_draw.c
double roofline_intensity(const RooflineKernel *kernel);                       // operations a byte
const char *roofline_bound(const Roofs *roofs, const RooflineKernel *kernel);  // "FMA", "L2"
int roofline_check_picture(const char *path);                                  // EXIT_*
// -1 with error_text(); without gnuplot a line says so, and that is all.
int roofline_draw(const Roofline *line, const char *path);
#endif
