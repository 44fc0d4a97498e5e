/* cmocka.h - what tests/main.c uses of cmocka, for machines without it: make gpu-check needs no
 * library. A test that fails or skips jumps back to the loop over the tests. */
#ifndef PICOGRAD_TESTS_PLAIN_CMOCKA_H
#define PICOGRAD_TESTS_PLAIN_CMOCKA_H
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
    void *setup, *teardown, *state;
};

static jmp_buf plain_place;

#define print_error(...) fprintf(stderr, __VA_ARGS__)
#define skip()           longjmp(plain_place, 2)

static inline void _fail(const char *file, int line) {
    fprintf(stderr, "%s:%d: failed\n", file, line);
    longjmp(plain_place, 1);
}

static inline void _cmocka_run_group_tests(const char *group, const struct CMUnitTest *test,
                                           size_t count, void *setup, void *teardown) {
    static const char *const ends[] = {"      OK", "  FAILED", " SKIPPED"};
    (void)group, (void)setup, (void)teardown;
    for (volatile size_t i = 0; i < count; i++) {
        printf("[ RUN      ] %s\n", test[i].name);
        void *state = test[i].state;
        int end = setjmp(plain_place);
        if (!end) test[i].run(&state);
        printf("[ %s ] %s\n", ends[end], test[i].name);
    }
}
#endif
