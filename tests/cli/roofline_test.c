/* roofline_test.c - the arithmetic of roofs, and the script of the picture: known roofs and kernels
 * in, where numbers stand and what gnuplot is told out. */
#define _GNU_SOURCE
#include "test.h"

#include "../../src/cli/energy.c"
#include "../../src/cli/machine.c"
#include "../../src/cli/roof.c"
#include "../../src/cli/roofline_draw.c"
#include "../../src/cli/sample.c"

int usage_wrong(const char *format, ...) {
    (void)format;
    return EXIT_USAGE;
}

static const Roofs known = {
    .peak = 2e11,
    .bound = 2e11,
    .levels = 3,
    .level = {{"L1", 64e3, 4e11}, {"L2", 1e6, 2e11}, {"memory", INFINITY, 2e10}},
};

TEST(data_lies_in_the_smallest_level_that_holds_it) {
    CHECK_TEXT(roofs_level(&known, 64e3)->name, "L1");
    CHECK_TEXT(roofs_level(&known, 65e3)->name, "L2");
    CHECK_TEXT(roofs_level(&known, 2e6)->name, "memory");
}

TEST(the_slower_of_operations_and_bytes_is_the_bound) {
    const RoofLevel *memory = &known.level[2];
    CHECK_NEAR(roofs_ridge(&known, memory), 10, 1e-12);
    CHECK_NEAR(roofs_seconds(&known, memory, 4e11, 1e10), 2, 1e-12);
    CHECK_NEAR(roofs_seconds(&known, memory, 4e11, 8e10), 4, 1e-12);
    RooflineKernel kernel = {.operations = 9.9e10, .bytes = 1e10, .level = memory};
    CHECK_TEXT(roofline_bound(&known, &kernel), "memory");
    kernel.operations = 1e11;
    CHECK_TEXT(roofline_bound(&known, &kernel), "FMA");
}

static Roofline roofline_of(int kernels, double spread) {
    Roofline line = {.arena = arena_new(), .roofs = known};
    for (int i = 0; i < kernels; i++)
        *list_add(line.arena, &line.kernels) =
            (RooflineKernel){.program = "it's one",
                             .name = "reduce_4",
                             .calls = 1,
                             .seconds = 1e-3 * (1 + i % 3),
                             .operations = 1e7 * (1 + spread * i),
                             .bytes = 1e7,
                             .level = &known.level[2]};
    return line;
}

// The numbers of 60 kernels that are nearly one point stand apart, and beside all circles.
TEST(numbers_do_not_cover_each_other) {
    enum { COUNT = 60 };
    Roofline line = roofline_of(COUNT, 0.01);
    Mark mark[COUNT] = {0};
    int32_t order[COUNT];
    Drawing drawing = {.line = &line, .height = 1300, .order = order, .mark = mark, .all = 0.12};
    for (int i = 0; i < COUNT; i++) order[i] = i;
    find_ranges(&drawing);
    place_marks(&drawing);
    for (int i = 0; i < COUNT; i++)
        for (int j = 0; j < COUNT; j++) {
            CHECK(i == j || !boxes_meet(mark[i].to_x, mark[i].to_y, mark[j].to_x, mark[j].to_y,
                                        NUMBER_WIDTH, NUMBER_HEIGHT));
            CHECK(!boxes_meet(mark[i].to_x, mark[i].to_y, mark[j].x, mark[j].y, mark[j].radius,
                              mark[j].radius));
        }
    arena_free(line.arena);
}

TEST(the_script_quotes_text_and_draws_every_kernel) {
    Roofline line = roofline_of(5, 1);
    line.roofs.tile = 6e12;
    Text script = text_new(line.arena);
    add_script(&script, &line, "svg");
    int circles = 0;
    for (const char *at = script.at; (at = strstr(at, "set object circle")); at++) circles++;
    CHECK_INT(circles, 5);
    CHECK(strstr(script.at, "'it''s one'") != NULL);
    CHECK(strstr(script.at, "'tiles of bf16  6000 GFLOP/s'") != NULL);
    CHECK(strstr(script.at, "'memory  20 GB/s'") != NULL);
    CHECK(strstr(script.at, "nan") == NULL && strstr(script.at, "inf") == NULL);
    arena_free(line.arena);
}

TEST(control_characters_do_not_reach_gnuplot) {
    Arena *arena = arena_new();
    Text text = text_new(arena);
    add_quoted(&text, "a\n!rm 'b'\x7f", 100);
    CHECK_TEXT(text.at, "'a?!rm ''b''?'");
    arena_free(arena);
}
