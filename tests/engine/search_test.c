/* search_test.c - what a search chooses, keeps, takes up again, and does not believe.
 * A clock of the test's own stands for the machine's, but in the last three tests; PG_ISA=c but in
 * the last, so that the heuristic's schedule is the same everywhere. */
#include "engine/search.h"
#include "picograd.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64], *database;
static int calls, limit;  // of the clock; after `limit` the search is stopped
static SearchNews last;

static void remove_all(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", folder);
    if (system(command)) perror(folder);
}

// An empty cache; PG_BEAM is not set.
static void begin(void) {
    if (!folder[0]) {
        strcpy(folder, "/tmp/picograd-test-XXXXXX");
        CHECK(mkdtemp(folder) != NULL);
        atexit(remove_all);
    }
    setenv("PG_CACHE", folder, 1);
    setenv("PG_ISA", "c", 1);
    unsetenv("PG_BEAM");
    tuned_clear();
    calls = 0;
    limit = INT32_MAX;
    last = (SearchNews){0};
    engine_search(NULL);
#ifndef PG_HAVE_SQLITE
    SKIP("this build has no SQLite, in which results are kept");
#endif
    Arena *arena = arena_new();
    free(database);
    database = strdup(arena_print(arena, "%s/tuned.db", folder));
    arena_free(arena);
}

// ---- a clock -----------------------------------------------------------------------------------

static bool by_cc;  // the best one, in the last news

static bool lays_out;  // its schedule does

static void listen(const SearchNews *news) {
    last = *news;
    lays_out = news->result.schedule && strstr(news->result.schedule, " in once\n");
    by_cc = !strcmp(news->result.compiler, "cc");
}
static bool at_limit(void) { return calls >= limit; }

// Sums in pieces of 64 are the fastest; written out 8 at a time, more so.
static double by_text(const char *schedule, const char *compiler) {
    (void)compiler;
    calls++;
    double seconds = strstr(schedule, "SPLIT k 64 ") ? 1e-3 : 2e-3;
    return strstr(schedule, "UNROLL k0 8\n") ? 0.5 * seconds : seconds;
}

static double always(const char *schedule, const char *compiler) {
    (void)schedule, (void)compiler;
    calls++;
    return 1e-3;
}

static Search fake(double (*clock)(const char *schedule, const char *compiler)) {
    return (Search){.width = 8, .stopped = at_limit, .tell = listen, .measure = clock};
}

// ---- a program ---------------------------------------------------------------------------------
enum { ROWS = 24, COLUMNS = 1024 };

static void squares(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = pg_sum(pg_mul(in[0], in[0]), PG_AXES(1), false);
}

// Compiles and runs it; checks what it computes. Returns what PG_DUMP tells of a pass, which stays
// until the next run.
static const char *run_told(const char *pass) {
    static char text[1 << 16];
    FILE *told = tmpfile();
    PgTensor *out;
    pg_set_mode(PG_GRAPH);
    pg_scope_begin();
    PgFunction *function = pg_function(squares, NULL, 1, 1);
    static float number[ROWS * COLUMNS];
    for (int i = 0; i < ROWS * COLUMNS; i++) number[i] = 1e-4f * (float)i;
    PgTensor *x = pg_from_data(PG_F32, PG_SHAPE(ROWS, COLUMNS), number);
    engine_dump_to(told);
    setenv("PG_DUMP", pass, 1);
    CHECK_INT(pg_call(function, &x, &out), 0);
    unsetenv("PG_DUMP");
    engine_dump_to(NULL);
    for (int row = 0; row < ROWS; row++) {
        double wanted = 0;
        for (int i = row * COLUMNS; i < (row + 1) * COLUMNS; i++) wanted += 1e-8 * i * i;
        CHECK_NEAR(pg_item(pg_select(out, 0, row)), wanted, 1e-5 * wanted);
    }
    pg_function_free(function);
    pg_scope_end();
    rewind(told);
    text[fread(text, 1, sizeof text - 1, told)] = 0;
    fclose(told);
    return text;
}

static const char *run(void) { return run_told("schedule"); }

static void search_with(const Search *how) {
    engine_search(how);
    run();
    engine_search(NULL);
}

// ---- the tests ---------------------------------------------------------------------------------

TEST(the_fastest_by_the_clock_wins) {
    begin();
    Search how = fake(by_text);
    search_with(&how);
    CHECK(last.done && !last.known);
    CHECK_NEAR(last.result.heuristic, 2e-3, 1e-12);
    CHECK_NEAR(last.result.best, 0.5e-3, 1e-12);
    CHECK(last.measured > 8 && last.refused > 0);
    CHECK_INT(tuned_count(), 1);
}

TEST(no_gain_leaves_the_heuristic) {
    begin();
    char *usual = strdup(run());
    Search how = fake(always);
    search_with(&how);
    CHECK_NEAR(last.result.best, last.result.heuristic, 0);
    CHECK_TEXT(run(), usual);
    free(usual);
}

TEST(a_result_is_used_without_search) {
    begin();
    CHECK(!strstr(run(), "SPLIT k 64 "));
    Search how = fake(by_text);
    search_with(&how);
    calls = 0;
    CHECK(strstr(run(), "SPLIT k 64 ") != NULL);
    CHECK_INT(calls, 0);
    setenv("PG_BEAM", "0", 1);
    CHECK(!strstr(run(), "SPLIT k 64 "));
    unsetenv("PG_BEAM");
}

TEST(a_search_that_ended_is_not_done_again) {
    begin();
    Search how = fake(by_text);
    search_with(&how);
    calls = 0;
    search_with(&how);
    CHECK_INT(calls, 0);
    CHECK(last.known && last.done);
    CHECK_NEAR(last.result.best, 0.5e-3, 1e-12);
}

TEST(a_search_that_was_stopped_goes_on) {
    begin();
    Search how = fake(by_text);
    search_with(&how);
    int whole = calls, measured = last.measured;
    begin();
    limit = whole / 2;
    search_with(&how);
    int before = last.measured;
    CHECK(before > 0 && before < measured);
    CHECK_INT(tuned_count(), 1);
    calls = 0;
    limit = INT32_MAX;
    search_with(&how);
    CHECK(!last.known);
    CHECK(last.measured >= before);
    CHECK(calls < whole);
    CHECK_NEAR(last.result.best, 0.5e-3, 1e-12);
    calls = 0;
    search_with(&how);
    CHECK_INT(calls, 0);
}

TEST(stopped_at_once_it_keeps_the_heuristic) {
    begin();
    char *usual = strdup(run());
    Search how = fake(by_text);
    limit = 0;
    search_with(&how);
    CHECK_TEXT(run(), usual);
    free(usual);
}

TEST(a_damaged_file_is_made_anew) {
    begin();
    Search how = fake(by_text);
    search_with(&how);
    FILE *file = fopen(database, "r+");
    CHECK(file && !fseek(file, 0, SEEK_END));
    long size = ftell(file);
    for (int part = 0; part < 2; part++) {
        rewind(file);
        for (long i = part ? 200 : 0; i < size; i++) fputc((int)(i * 37 % 251), file);
        fflush(file);
        CHECK(!strstr(run(), "SPLIT k 64 "));
        calls = 0;
        search_with(&how);
        CHECK(calls > 0);
        CHECK_INT(tuned_count(), 1);
        fclose(file);
        file = fopen(database, "r+");
    }
    fclose(file);
}

TEST(a_cut_file_does_no_harm) {
    begin();
    Search how = fake(by_text);
    search_with(&how);
    CHECK_INT(truncate(database, 3000), 0);
    CHECK(!strstr(run(), "SPLIT k 64 "));
    search_with(&how);
    CHECK_INT(tuned_count(), 1);
}

TEST(no_file_but_a_folder) {
    begin();
    Arena *arena = arena_new();
    CHECK_INT(folder_make(database), 0);
    CHECK(tuned_open(arena, true) == NULL);
    CHECK(tuned_count() < 0);
    run();
    CHECK_INT(rmdir(database), 0);
    arena_free(arena);
}

static TunedKey key_of(Arena *arena, const char *kernel) {
    return (TunedKey){kernel, tuned_place(arena), "kernel"};
}

TEST(results_of_another_place_are_not_used) {
    begin();
    Arena *arena = arena_new();
    Tuned *tuned = tuned_open(arena, true);
    TunedKey key = key_of(arena, "kernel k\n"), other = key;
    TunedResult result = {"THREAD i\n", "cc", "", 2, 1, 3, true}, found;
    tuned_keep(tuned, &key, &result);
    CHECK(tuned_find(tuned, &key, &found));
    CHECK_TEXT(found.schedule, "THREAD i\n");
    CHECK(found.best == 1 && found.heuristic == 2 && found.spent == 3 && found.complete);
    other.place = arena_print(arena, "%s and more", key.place);
    CHECK(!tuned_find(tuned, &other, &found) && !found.schedule);
    other = key;
    other.kernel = "kernel l\n";
    CHECK(!tuned_find(tuned, &other, &found));
    tuned_close(tuned);
    arena_free(arena);
}

TEST(a_place_names_cpu_compiler_threads_and_code) {
    begin();
    Arena *arena = arena_new();
    const char *place = tuned_place(arena);
    CHECK(strstr(place, "model") && strstr(place, "flags") && strstr(place, "-O2"));
    int threads = thread_count();
    thread_set_count(threads + 1);
    CHECK(strcmp(tuned_place(arena), place) != 0);
    thread_set_count(threads);
    CHECK_TEXT(tuned_place(arena), place);
    setenv("PG_CC", "gcc", 1);
    CHECK(strcmp(tuned_place(arena), place) != 0 || !strstr(place, "clang"));
    unsetenv("PG_CC");
    arena_free(arena);
}

// As if a search had found it.
static void put(const char *schedule, const char *compiler, const char *trials, bool complete) {
    begin();
    Arena *arena = arena_new();
    const char *text = arena_text(arena, strstr(run_told("unify"), "\nkernel ") + 1);
    Tuned *tuned = tuned_open(arena, true);
    TunedKey key = key_of(arena, text);
    tuned_keep(tuned, &key, &(TunedResult){schedule, compiler, trials, 2, 1, 1, complete});
    tuned_close(tuned);
    arena_free(arena);
}

TEST(a_schedule_of_the_file_is_checked_like_any_other) {
    begin();
    char *usual = strdup(run());
    const char *const bad[] = {"THREAD k\n",
                               "VECTORIZE i\n",
                               "SPLIT i 0\n",
                               "NONSENSE\n",
                               "SPLIT i 99999999999999999999\n",
                               "UNROLL zzz\n",
                               "\x01\xff;';--\n"};
    for (int i = 0; i < COUNT_OF(bad); i++) {
        put(bad[i], "cc", "", true);
        CHECK_TEXT(run(), usual);
    }
    put("THREAD i\n", "/bin/rm", "", true);  // a compiler is one of ours, by name
    CHECK_TEXT(run(), usual);
    put("THREAD i\n", "cc", "", true);
    CHECK(strcmp(run(), usual) != 0);
    free(usual);
}

TEST(trials_of_the_file_are_checked_like_any_other) {
    const char *const bad[] = {"nonsense",
                               "1e-9\t0\t0\tcc\tfree\tNONSENSE;\n",
                               "1e-9\t0\t0\tcc\tfree\tTHREAD k;\n",
                               "nan\tnan\tnan\tcc\tx\t;\n",
                               "\t\t\t\t\t\n\t\t\t\t\t\t\t\t\n",
                               "-1\t0\t0\tcc\tx\tTHREAD i;\n"};
    Search how = fake(by_text);
    for (int i = 0; i < COUNT_OF(bad); i++) {
        put("", "cc", bad[i], false);
        search_with(&how);
        CHECK(last.done && last.result.best >= 0.5e-3);
        CHECK(by_cc);
    }
}

TEST(a_real_search_of_a_small_kernel) {
    begin();
    setenv("PG_BEAM", "1", 1);
    run();
    CHECK_INT(tuned_count(), 1);
    unsetenv("PG_BEAM");
    run();
}

// ---- results -----------------------------------------------------------------------------------

static KernelFunction *compiled(Arena *arena, const char *text, CompileUnit *unit) {
    char *symbol = arena_alloc(arena, SYMBOL_SIZE);
    Kernel *kernel = kernel_parse(arena, "test", text);
    unit->source = render_c(arena, lower(arena, kernel, &(LowerOptions){0}), "", symbol);
    unit->symbol = symbol;
    CHECK_INT(compile_trials(unit, 1), 0);
    return unit->function;
}

TEST(another_result_is_noticed) {
    begin();
    Arena *arena = arena_new();
    const char *form =
        "kernel test\nin a f32[64]\nout b f32[64]\nfor i < %d { b[i] = (mul a[i] %s) }\n";
    Kernel *kernel = kernel_parse(arena, "test", arena_print(arena, form, 64, "2"));
    Module module = {.arena = arena};
    for (int i = 0; i < 2; i++)
        *list_add(arena, &module.slots) = (Slot){.dtype = DT_F32, .elements = 64};
    *list_add(arena, &module.calls) =
        (KernelCall){.kernel = kernel, .slot = (int32_t[]){0, 1}, .params = 2};
    Trial *trial = trial_open(arena, &module, (int32_t[]){0}, 0);
    CompileUnit unit[4] = {{0}};
    const char *const factor[] = {"2", "2.000001", "2.01", "2"};
    bool agrees[4];
    for (int i = 0; i < 4; i++) {
        TrialKernel run = {
            .function =
                compiled(arena, arena_print(arena, form, i == 3 ? 63 : 64, factor[i]), &unit[i])};
        if (i == 0) trial_expect(trial, &run);
        agrees[i] = trial_agrees(trial, &run);
        CHECK(trial_time(trial, &run, 1e-5) > 0);
    }
    CHECK(agrees[0] && agrees[1] && !agrees[2] && !agrees[3]);
    compile_forget(unit, 4);
    trial_close(trial);
    arena_free(arena);
}

// ---- weights that are laid out -----------------------------------------------------------------
enum { OUT = 64, IN = 48 };

static void product(void *weights, PgTensor **in, PgTensor **out) {
    out[0] = pg_linear(in[0], weights, NULL);
}

// What a search chose computes the same, from the layout that other steps read.
TEST(kernels_that_lay_weights_out_are_searched) {
    begin();
    unsetenv("PG_ISA");
    if (target()->lanes < 8) SKIP("weights are laid out for vectors of 8 and more");
    static float numbers[OUT * IN], x[IN], y[OUT];
    for (int i = 0; i < OUT * IN; i++) numbers[i] = (float)(i * 7 % 13 - 6);
    for (int i = 0; i < IN; i++) x[i] = (float)(i % 5 - 2);
    pg_set_mode(PG_GRAPH);
    pg_scope_begin();
    PgTensor *weights = pg_wrap(PG_F32, PG_SHAPE(OUT, IN), numbers, 0, NULL, NULL),
             *input = pg_from_data(PG_F32, PG_SHAPE(1, IN), x), *out;
    for (int searched = 0; searched < 2; searched++) {
        Search how = {.width = 1, .tell = listen};
        engine_search(searched ? &how : NULL);
        PgFunction *function = pg_function(product, weights, 1, 1);
        CHECK_INT(pg_call(function, &input, &out), 0);
        pg_to_host(out, y, sizeof y);
        for (int j = 0; j < OUT; j++) {
            float wanted = 0;  // small integers: exact
            for (int k = 0; k < IN; k++) wanted += numbers[IN * j + k] * x[k];
            CHECK(y[j] == wanted);
        }
        pg_function_free(function);
    }
    engine_search(NULL);
    pg_scope_end();
    CHECK(last.measured > 1 && last.result.best > 0 && last.result.best <= last.result.heuristic);
    CHECK(lays_out);
}
