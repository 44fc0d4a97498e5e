/* roof.h - what the machine can do at best, and how near something comes to it. */
#ifndef PICOGRAD_ROOF_H
#define PICOGRAD_ROOF_H
#include "cli/cli.h"

enum { ROOF_LEVELS = 4 };
typedef struct {
    const char *name;  // "L1", "L2", "L3", "memory"
    double bytes;      // what all threads' caches of this level hold; memory: INFINITY
    double rate;       // bytes read a second, by all threads
} RoofLevel;
typedef struct {
    double peak;   // fused multiply-adds: float operations a second, of all threads
    double tile;   // the same of AMX's tiles of bf16; 0: the machine has none
    double bound;  // what a kernel may reach: the peak, or with --precision tf32 that of tiles, of
                   // which a product takes three
    int levels;
    RoofLevel level[ROOF_LEVELS];  // the last one is memory
} Roofs;
// About a second. Threads and instruction set are those that kernels use. -1 with error_text()
int roofs_measure(Roofs *roofs);
// The level that a program's data of so many bytes stays in, from one run to the next.
const RoofLevel *roofs_level(const Roofs *roofs, double bytes);
// What both bounds together allow, in seconds: no less than operations at the peak, no less than
// bytes at the level's rate.
double roofs_seconds(const Roofs *roofs, const RoofLevel *level, double operations, double bytes);
// From here on, in operations a byte, the peak is the bound.
double roofs_ridge(const Roofs *roofs, const RoofLevel *level);
#endif
