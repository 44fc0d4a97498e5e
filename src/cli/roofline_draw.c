/* roofline_draw.c - the roofline as a picture: speed over operations a byte, both logarithmic.
 * In: roofs and kernels.  Out: a PNG or SVG file, by gnuplot.
 * Invariants: the file is there whole or not at all; gnuplot is told no file's name, and text only
 * in quotes. A kernel is a circle whose area is its share of the time, with the number of its line
 * in the list beside the plot; numbers stand where they cover nothing.                          */
#define _GNU_SOURCE
#include "cli/roofline.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

// In pixels; the plot lies within the margins, the list right of it.
enum {
    WIDTH = 1400,
    LEAST_HEIGHT = 860,
    LEFT = 90,
    RIGHT = 520,
    TOP = 70,
    BOTTOM = 75,
    LINE = 19,
    NUMBER_WIDTH = 20,
    NUMBER_HEIGHT = 14,
    NAME_WIDTH = 215,
    NAME_ABOVE = 12,
};
static const char *const colours[] = {"#1d6fa5", "#c8553d", "#3a7d44", "#7b4fa3",
                                      "#b8860b", "#2f8f9d", "#a23b72", "#5c6b73"};

typedef struct {
    double x, y;        // of the circle's middle, in pixels of the plot
    double radius;      // 0: not drawn, since it has no operations or no bytes
    double to_x, to_y;  // of the number's middle
    int colour;
} Mark;

typedef struct {
    const Roofline *line;
    Text *to;
    int height;
    double x_low, x_high, y_low, y_high;  // log10 of operations a byte, operations a second
    double all;                           // seconds
    int32_t *order;                       // kernels, those that take longest first
    Mark *mark;                           // of each place in the order
} Drawing;

// ---- of a kernel --------------------------------------------------------------------------------
double roofline_intensity(const RooflineKernel *kernel) {
    return kernel->bytes > 0 ? kernel->operations / kernel->bytes : 0;
}

const char *roofline_bound(const Roofs *roofs, const RooflineKernel *kernel) {
    return roofline_intensity(kernel) >= roofs_ridge(roofs, kernel->level)
               ? roofs->bound > roofs->peak ? "AMX" : "FMA"
               : kernel->level->name;
}

// ---- the axes ----------------------------------------------------------------------------------
static double plot_width(void) { return WIDTH - LEFT - RIGHT; }
static double plot_height(const Drawing *drawing) { return drawing->height - TOP - BOTTOM; }
static double x_of(const Drawing *drawing, double intensity) {
    return (log10(intensity) - drawing->x_low) / (drawing->x_high - drawing->x_low) * plot_width();
}
static double y_of(const Drawing *drawing, double speed) {
    return (log10(speed) - drawing->y_low) / (drawing->y_high - drawing->y_low) *
           plot_height(drawing);
}

static const RooflineKernel *kernel_at(const Drawing *drawing, int32_t place) {
    return &drawing->line->kernels.at[drawing->order[place]];
}
static bool is_drawn(const RooflineKernel *kernel) {
    return kernel->operations > 0 && kernel->bytes > 0;
}
static double speed_of(const RooflineKernel *kernel) {
    return kernel->operations / kernel->seconds;
}

// The highest roof, at which bandwidths end.
static double top_of(const Roofs *roofs) { return fmax(roofs->bound, roofs->tile); }

// All ridges and all kernels, and some room.
static void find_ranges(Drawing *drawing) {
    const Roofs *roofs = &drawing->line->roofs;
    double x_low = roofs->peak / roofs->level[0].rate / 2,
           x_high = top_of(roofs) / roofs->level[roofs->levels - 1].rate * 6;
    double y_low = roofs->peak / 100, y_high = top_of(roofs) * 2.2;
    for (int32_t i = 0; i < drawing->line->kernels.count; i++) {
        const RooflineKernel *kernel = &drawing->line->kernels.at[i];
        if (!is_drawn(kernel)) continue;
        x_low = fmin(x_low, roofline_intensity(kernel) / 2);
        x_high = fmax(x_high, roofline_intensity(kernel) * 2);
        y_low = fmin(y_low, speed_of(kernel) / 2);
        y_high = fmax(y_high, speed_of(kernel) * 2);
    }
    drawing->x_low = log10(x_low);
    drawing->x_high = log10(x_high);
    drawing->y_low = log10(y_low);
    drawing->y_high = log10(y_high);
}

// ---- where numbers stand -----------------------------------------------------------------------
static bool boxes_meet(double x, double y, double other_x, double other_y, double width,
                       double height) {
    return fabs(x - other_x) < width && fabs(y - other_y) < height;
}

// Where a horizontal roof has its name: at its right end, above it.
static bool meets_name(const Drawing *drawing, double peak, double x, double y) {
    double far = plot_width() - 0.5 * NAME_WIDTH - 10, high = y_of(drawing, peak) + NAME_ABOVE;
    return peak > 0 && boxes_meet(x, y, far, high, 0.5 * (NAME_WIDTH + NUMBER_WIDTH), LINE);
}

// Neither on a number that stands already, nor on a circle or a name, nor outside.
static bool is_free(const Drawing *drawing, int32_t count, int32_t self, double x, double y) {
    const Roofs *roofs = &drawing->line->roofs;
    if (x < NUMBER_WIDTH || x > plot_width() - NUMBER_WIDTH || y < NUMBER_HEIGHT ||
        y > plot_height(drawing) - NUMBER_HEIGHT || meets_name(drawing, roofs->peak, x, y) ||
        meets_name(drawing, roofs->tile, x, y) || meets_name(drawing, roofs->bound, x, y))
        return false;
    for (int32_t i = 0; i < count; i++) {
        const Mark *mark = &drawing->mark[i];
        if (!(mark->radius > 0)) continue;
        if (i < self && boxes_meet(x, y, mark->to_x, mark->to_y, NUMBER_WIDTH, NUMBER_HEIGHT))
            return false;
        if (boxes_meet(x, y, mark->x, mark->y, mark->radius + 0.5 * NUMBER_WIDTH,
                       mark->radius + 0.5 * NUMBER_HEIGHT))
            return false;
    }
    return true;
}

// The nearest free place, on circles around the mark.
static void place_number(const Drawing *drawing, int32_t count, int32_t self) {
    enum { ANGLES = 24 };
    Mark *mark = &drawing->mark[self];
    double farthest = 12 * NUMBER_WIDTH;
    for (double far = 3; far < farthest; far += 4) {
        for (int i = 0; i < ANGLES; i++) {
            double angle = 2 * M_PI * (i + 3) / ANGLES;  // up and right first
            mark->to_x = mark->x + (mark->radius + far + 0.5 * NUMBER_WIDTH) * cos(angle);
            mark->to_y = mark->y + (mark->radius + far + 0.5 * NUMBER_HEIGHT) * sin(angle);
            if (is_free(drawing, count, self, mark->to_x, mark->to_y)) return;
        }
    }
}

static int colour_of(const Drawing *drawing, const RooflineKernel *kernel) {
    int programs = -1;
    const char *before = NULL;
    for (int32_t i = 0; i < drawing->line->kernels.count; i++) {
        const RooflineKernel *other = &drawing->line->kernels.at[i];
        programs += other->program != before;
        before = other->program;
        if (other == kernel) break;
    }
    return programs % COUNT_OF(colours);
}

static void place_marks(Drawing *drawing) {
    static const double least = 4, most = 22;
    int32_t count = drawing->line->kernels.count;
    for (int32_t i = 0; i < count; i++) {
        const RooflineKernel *kernel = kernel_at(drawing, i);
        Mark *mark = &drawing->mark[i];
        mark->colour = colour_of(drawing, kernel);
        if (!is_drawn(kernel)) continue;
        mark->x = x_of(drawing, roofline_intensity(kernel));
        mark->y = y_of(drawing, speed_of(kernel));
        mark->radius = fmax(least, most * sqrt(kernel->seconds / drawing->all));
    }
    for (int32_t i = 0; i < count; i++)
        if (drawing->mark[i].radius > 0) place_number(drawing, count, i);
}

// ---- the script --------------------------------------------------------------------------------
static void add_quoted(Text *to, const char *text, size_t most) {
    text_add(to, "'");
    for (size_t i = 0; text[i] && i < most; i++) {
        bool control = (unsigned char)text[i] < ' ' || text[i] == 0x7f;
        text_add(to, text[i] == '\'' ? "''" : "%c", control ? '?' : text[i]);
    }
    text_add(to, "'");
}

static void add_label(Drawing *drawing, double x, double y, const char *text, const char *how) {
    text_add(drawing->to, "set label ");
    add_quoted(drawing->to, text, 200);
    text_add(drawing->to, " at screen %.5f, screen %.5f noenhanced %s\n", x / WIDTH,
             y / drawing->height, how);
}

// A roof: along the bandwidth up to the ridge.
static void add_level(Drawing *drawing, const RoofLevel *level) {
    const Roofs *roofs = &drawing->line->roofs;
    double top = top_of(roofs), ridge = top / level->rate, start = pow(10, drawing->x_low);
    double bottom = pow(10, drawing->y_low);
    if (start * level->rate < bottom) start = bottom / level->rate;
    text_add(drawing->to, "set arrow from %g, %g to %g, %g nohead lw 1.6 lc rgb '#555555' back\n",
             start, start * level->rate, ridge, top);
    double x = x_of(drawing, start), y = y_of(drawing, start * level->rate);
    double angle = atan2(y_of(drawing, top) - y, x_of(drawing, ridge) - x);
    Arena *arena = drawing->line->arena;
    x += LEFT + 28 * cos(angle) - 10 * sin(angle);
    y += BOTTOM + 28 * sin(angle) + 10 * cos(angle);
    add_label(
        drawing, x, y, arena_print(arena, "%s  %.0f GB/s", level->name, 1e-9 * level->rate),
        arena_print(arena, "left rotate by %.1f tc rgb '#444444' font ',11'", angle * 180 / M_PI));
}

static void add_peak(Drawing *drawing, const char *name, double peak) {
    Arena *arena = drawing->line->arena;
    double start = peak / drawing->line->roofs.level[0].rate;
    text_add(drawing->to,
             "set arrow from %g, %g to graph 1, first %g nohead lw 1.6 lc rgb "
             "'#555555' back\n",
             start, peak, peak);
    add_label(drawing, LEFT + plot_width() - 10, BOTTOM + y_of(drawing, peak) + NAME_ABOVE,
              arena_print(arena, "%s  %.0f GFLOP/s", name, 1e-9 * peak),
              "right tc rgb '#444444' font ',11'");
}

static void add_frame(Drawing *drawing, const char *form) {
    Text *to = drawing->to;
    text_add(to, "set terminal %s size %d,%d font 'DejaVu Sans,11' background rgb 'white'\n", form,
             WIDTH, drawing->height);
    text_add(to, "set lmargin at screen %.5f\nset rmargin at screen %.5f\n", (double)LEFT / WIDTH,
             (double)(WIDTH - RIGHT) / WIDTH);
    text_add(to, "set bmargin at screen %.5f\nset tmargin at screen %.5f\n",
             (double)BOTTOM / drawing->height, 1 - (double)TOP / drawing->height);
    text_add(to, "set logscale xy\nset xrange [%g:%g]\nset yrange [%g:%g]\nunset key\n",
             pow(10, drawing->x_low), pow(10, drawing->x_high), pow(10, drawing->y_low),
             pow(10, drawing->y_high));
    text_add(to,
             "set xlabel 'operations a byte'\nset ylabel 'GFLOP/s' offset 1\n"
             "set border 3 lc rgb '#888888'\nset tics nomirror tc rgb '#333333'\n"
             "set grid xtics ytics lt 1 lw 1 lc rgb '#e4e4e4'\nset format x '%%g'\nset ytics (");
    const char *comma = "";
    for (int power = (int)floor(drawing->y_low); power <= drawing->y_high; power++, comma = ", ")
        text_add(to, "%s'%g' 1e%d", comma, pow(10, power - 9), power);
    text_add(to, ")\n");
}

static void add_list(Drawing *drawing) {
    double x = WIDTH - RIGHT + 30, y = drawing->height - TOP + 8;
    Arena *arena = drawing->line->arena;
    const char *program = NULL;
    add_label(drawing, WIDTH - 155, y, "time", "right font ',11' tc rgb '#444444'");
    add_label(drawing, WIDTH - 20, y, "of its roof", "right font ',11' tc rgb '#444444'");
    bool several = drawing->line->kernels.at[0].program !=
                   drawing->line->kernels.at[drawing->line->kernels.count - 1].program;
    for (int32_t i = 0; i < drawing->line->kernels.count; i++) {
        const RooflineKernel *kernel = kernel_at(drawing, i);
        const char *colour = colours[drawing->mark[i].colour];
        const char *name = several ? arena_print(arena, "%s %.*s", kernel->program,
                                                 (int)strcspn(kernel->name, "_"), kernel->name)
                                   : kernel->name;
        y -= LINE;
        const char *times = kernel->calls > 1 ? arena_print(arena, "  x %d", kernel->calls) : "";
        add_label(drawing, x, y, arena_print(arena, "%d", i + 1),
                  arena_print(arena, "right font ',11' tc rgb '%s'", colour));
        add_label(drawing, x + 10, y, arena_print(arena, "%.34s%s", name, times),
                  arena_print(arena, "left font ',11' tc rgb '%s'", colour));
        add_label(drawing, WIDTH - 155, y,
                  arena_print(arena, "%.1f %%", 100 * kernel->seconds / drawing->all),
                  "right font ',11'");
        add_label(drawing, WIDTH - 20, y,
                  arena_print(arena, "%.0f %% of %s", 100 * kernel->share,
                              roofline_bound(&drawing->line->roofs, kernel)),
                  "right font ',11'");
        program = kernel->program;
    }
    if (!several && program)
        add_label(drawing, x + 10, drawing->height - TOP + 8, arena_print(arena, "%.40s", program),
                  "left font ',11' tc rgb '#444444'");
}

static void add_marks(Drawing *drawing) {
    Text *to = drawing->to;
    Arena *arena = drawing->line->arena;
    for (int32_t i = 0; i < drawing->line->kernels.count; i++) {
        const Mark *mark = &drawing->mark[i];
        if (!(mark->radius > 0)) continue;
        double x = (LEFT + mark->x) / WIDTH, y = (BOTTOM + mark->y) / drawing->height;
        double far = hypot(mark->to_x - mark->x, mark->to_y - mark->y);
        if (far > mark->radius + 1.5 * NUMBER_WIDTH)
            text_add(to,
                     "set arrow from screen %.5f, %.5f to screen %.5f, %.5f nohead lw 0.7 lc "
                     "rgb '%s'\n",
                     x, y, (LEFT + mark->to_x) / WIDTH, (BOTTOM + mark->to_y) / drawing->height,
                     colours[mark->colour]);
        text_add(to,
                 "set object circle at screen %.5f, screen %.5f size screen %.5f fc rgb '%s' "
                 "fs transparent solid 0.75 border lc rgb 'white' front\n",
                 x, y, mark->radius / WIDTH, colours[mark->colour]);
        add_label(drawing, LEFT + mark->to_x, BOTTOM + mark->to_y, arena_print(arena, "%d", i + 1),
                  arena_print(arena, "center front font ',10' tc rgb '%s'", colours[mark->colour]));
    }
}

static const Roofline *sorting;

static int by_time(const void *a, const void *b) {
    double x = sorting->kernels.at[*(const int32_t *)a].seconds;
    double y = sorting->kernels.at[*(const int32_t *)b].seconds;
    return (x < y) - (x > y);
}

static void add_script(Text *to, const Roofline *line, const char *form) {
    Drawing drawing = {.line = line, .to = to};
    int32_t count = line->kernels.count;
    const Roofs *roofs = &line->roofs;
    Arena *arena = line->arena;
    drawing.height = (int)max_i64(LEAST_HEIGHT, TOP + BOTTOM + (int64_t)LINE * count);
    drawing.order = arena_array(arena, int32_t, count + 1);
    drawing.mark = arena_array(arena, Mark, count + 1);
    for (int32_t i = 0; i < count; i++) {
        drawing.order[i] = i;
        drawing.all += line->kernels.at[i].seconds;
    }
    sorting = line;
    qsort(drawing.order, (size_t)count, sizeof *drawing.order, by_time);
    find_ranges(&drawing);
    place_marks(&drawing);
    add_frame(&drawing, form);
    const char *cpu = cpu_name(arena);
    add_label(&drawing, LEFT, drawing.height - 28,
              arena_print(arena, "Roofline of %s, %d thread%s", cpu, thread_count(),
                          thread_count() == 1 ? "" : "s"),
              "left font ',14'");
    for (int i = 0; i < roofs->levels; i++) add_level(&drawing, &roofs->level[i]);
    add_peak(&drawing, "multiply-adds", roofs->peak);
    if (roofs->tile > 0) add_peak(&drawing, "tiles of bf16", roofs->tile);
    if (roofs->bound > roofs->peak) add_peak(&drawing, "tf32 on tiles", roofs->bound);
    if (count) add_list(&drawing);
    add_marks(&drawing);
    text_add(to, "plot -1 notitle\n");
}

// ---- gnuplot -----------------------------------------------------------------------------------
static int spawn_gnuplot(int script, int picture, pid_t *process) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, script, 0);
    posix_spawn_file_actions_adddup2(&actions, picture, 1);
    int error =
        posix_spawnp(process, "gnuplot", &actions, NULL, (char *[]){"gnuplot", NULL}, environ);
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

// Its picture of the script into a new file.
static int run_gnuplot(const Text *script, const char *path) {
    pid_t process;
    struct stat facts;
    int status, input = memfd_create("script", MFD_CLOEXEC);
    int output = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    int error = input < 0 || output < 0 ? errno : 0;
    if (!error && write(input, script->at, script->count) != (ssize_t)script->count) error = errno;
    if (!error && lseek(input, 0, SEEK_SET)) error = errno;
    if (error) fail("cannot write %s: %s", path, strerror(error));
    int result = error ? -1 : 0;
    if (!error && (error = spawn_gnuplot(input, output, &process))) {
        say("no picture: gnuplot: %s. As root: apt-get install gnuplot-nox", strerror(error));
        result = 1;
    } else if (!error) {
        bool done = waitpid(process, &status, 0) == process && status == 0;
        done = done && !fstat(output, &facts) && facts.st_size > 0;
        if (!done) result = fail("gnuplot could not draw %s", path);
    }
    if (input >= 0) close(input);
    if (output >= 0) close(output);
    return result;
}

static const char *ending_of(const char *path) {
    const char *dot = strrchr(path, '.');
    return dot && !strchr(dot, '/') ? dot + 1 : "";
}

int roofline_check_picture(const char *path) {
    const char *ending = ending_of(path);
    if (!strcmp(ending, "png") || !strcmp(ending, "svg")) return EXIT_DONE;
    return usage_wrong("roofline: -o %.60s: a name that ends in .png or .svg", path);
}

int roofline_draw(const Roofline *line, const char *path) {
    Text script = text_new(line->arena);
    const char *partial = arena_print(line->arena, "%s.%d", path, (int)getpid());
    add_script(&script, line, strcmp(ending_of(path), "png") ? "svg" : "pngcairo");
    int result = run_gnuplot(&script, partial);
    if (result == 0 && rename(partial, path))
        result = fail("cannot write %s: %s", path, strerror(errno));
    if (result) unlink(partial);
    return result < 0 ? -1 : 0;
}
