/* gpu_report.h - what a kernel's counts say of it on a GPU, as text. */
#ifndef PICOGRAD_GPU_REPORT_H
#define PICOGRAD_GPU_REPORT_H
#include "schedule/schedule.h"

// A block of lines of 100 columns at most, that ends with a newline.
void gpu_report_add(Text *to, const GpuTarget *target, const GpuProfile *profile,
                    const GpuRoofline *line);
#endif
