/* main.c - the main of every test program.
 * In: the tests that TEST registered; a part of a name as an optional argument.
 * Out: cmocka's report, a line `skip: name: reason` for each skip, and last the counts, which
 * scripts/test.sh sums.  */
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { TESTS_LARGEST = 1000 };

typedef struct {
    const char *name;
    void (*run)(void);
} Test;

static Test tests[TESTS_LARGEST];
static struct CMUnitTest chosen[TESTS_LARGEST];
static int count, passed, skipped;
static const Test *running;

jmp_buf test_fatal_place;
bool test_fatal_wanted;

void test_add(const char *name, void (*run)(void)) {
    if (count == TESTS_LARGEST) fatal("a test program has at most %d tests", TESTS_LARGEST);
    tests[count++] = (Test){name, run};
}

void test_skip(const char *reason) {
    printf("skip: %s: %s\n", running->name, reason);
    skipped++;
    skip();
    abort();  // skip() has jumped
}

void check(bool holds, const char *what, const char *file, int line) {
    if (holds) return;
    print_error("%s\n", what);
    test_fatal_wanted = false;
    _fail(file, line);
}

static void refuse(const char *file, int line, const char *format, ...) PRINTF(3, 4);

static void refuse(const char *file, int line, const char *format, ...) {
    char message[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    check(false, message, file, line);
}

void check_int(int64_t got, int64_t wanted, const char *what, const char *file, int line) {
    if (got != wanted)
        refuse(file, line, "%s is %lld, not %lld", what, (long long)got, (long long)wanted);
}

void check_near(double got, double wanted, double tolerance, const char *what, const char *file,
                int line) {
    if (got == wanted || (isnan(got) && isnan(wanted))) return;
    if (!(fabs(got - wanted) <= tolerance) || isinf(got) || isinf(wanted))
        refuse(file, line, "%s is %.9g, not %.9g within %g", what, got, wanted, tolerance);
}

void check_text(const char *got, const char *wanted, const char *what, const char *file, int line) {
    if (!got || strcmp(got, wanted) != 0)
        refuse(file, line, "%s is\n%s\nnot\n%s", what, got ? got : "NULL", wanted);
}

void check_part(const char *got, const char *part, const char *what, const char *file, int line) {
    if (!strstr(got, part))
        refuse(file, line, "%s: the message \"%s\" lacks \"%s\"", what, got, part);
}

void check_fail(int got, const char *part, const char *what, const char *file, int line) {
    check_int(got, -1, what, file, line);
    check_part(error_text(), part, what, file, line);
}

static void on_fatal(const char *message) {
    if (!test_fatal_wanted) refuse("fatal", 0, "%s", message);
    test_fatal_wanted = false;
    longjmp(test_fatal_place, 1);
}

static void run(void **state) {
    running = *state;
    running->run();
    passed++;
}

int main(int argc, char **argv) {
    const char *part = argc > 1 ? argv[1] : "";
    fatal_hook(on_fatal);
    setvbuf(stdout, NULL, _IOLBF, 0);
    size_t wanted = 0;
    for (int i = 0; i < count; i++)
        if (strstr(tests[i].name, part))
            chosen[wanted++] = (struct CMUnitTest){tests[i].name, run, NULL, NULL, &tests[i]};
    _cmocka_run_group_tests(argv[0], chosen, wanted, NULL, NULL);
    int failed = (int)wanted - passed - skipped;
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed != 0;
}
