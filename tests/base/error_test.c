/* error_test.c - fatal, fail, try_call; switches from the environment. */
#include "test.h"

#include <stdlib.h>
#include <string.h>

static void stop(void *what) { fatal("add: %s", (const char *)what); }

static void stop_inside(void *what) {
    int *order = what;
    *order = *order * 10 + 1;
    CHECK_INT(try_call(stop, "inner"), -1);
    *order = *order * 10 + 2;
    fatal_again(error_text());
}

static void nothing(void *what) { *(int *)what = 7; }

TEST(try_call_catches) {
    CHECK_INT(try_call(stop, "shapes differ"), -1);
    CHECK_TEXT(error_text(), "add: shapes differ");
    int seen = 0;
    CHECK_INT(try_call(nothing, &seen), 0);
    CHECK_INT(seen, 7);
}

TEST(try_call_nests) {
    int order = 0;
    CHECK_INT(try_call(stop_inside, &order), -1);
    CHECK_INT(order, 12);
    CHECK_TEXT(error_text(), "add: inner");
}

TEST(the_call_site_is_named_once) {
    here("model.c", 12);
    CHECK_FATAL(fatal("mul: no"));
    CHECK_TEXT(error_text(), "model.c:12: mul: no");
    CHECK_FATAL(fatal("mul: no"));
    CHECK_TEXT(error_text(), "mul: no");
}

TEST(an_attempt_has_no_call_site) {
    here("model.c", 12);
    CHECK_INT(try_privately(stop, "no tile"), -1);
    CHECK_TEXT(error_text(), "add: no tile");
    CHECK_FATAL(fatal("mul: no"));
    CHECK_TEXT(error_text(), "model.c:12: mul: no");
}

TEST(fail_returns_minus_one) {
    CHECK_FAIL(fail("cannot open %s", "x"), "cannot open x");
    CHECK_FAIL(fail("again: %s", error_text()), "again: cannot open x");
}

TEST(a_long_message_is_cut) {
    char *text = calloc(1, 2 * ERROR_SIZE);
    memset(text, 'a', 2 * ERROR_SIZE - 1);
    fail("%s", text);
    CHECK_INT(strlen(error_text()), ERROR_SIZE - 1);
    here(text, 1);
    CHECK_FATAL(fatal("%s", text));
    CHECK_INT(strlen(error_text()), ERROR_SIZE - 1);
    CHECK_FATAL(fatal_again(text));
    CHECK_INT(strlen(error_text()), ERROR_SIZE - 1);
    free(text);
}

TEST(switches) {
    unsetenv("PG_TEST_SWITCH");
    CHECK_INT(env_int("TEST_SWITCH", 5), 5);
    CHECK_TEXT(env_text("TEST_SWITCH", "none"), "none");
    setenv("PG_TEST_SWITCH", "", 1);
    CHECK_INT(env_int("TEST_SWITCH", 5), 5);
    setenv("PG_TEST_SWITCH", "-3", 1);
    CHECK_INT(env_int("TEST_SWITCH", 5), -3);
    CHECK_TEXT(env_text("TEST_SWITCH", "none"), "-3");
    const char *wrong[] = {"yes", "1x", "99999999999999999999", " "};
    for (int i = 0; i < COUNT_OF(wrong); i++) {
        setenv("PG_TEST_SWITCH", wrong[i], 1);
        CHECK_FATAL_TEXT(env_int("TEST_SWITCH", 5), "not an integer");
    }
    unsetenv("PG_TEST_SWITCH");
}

TEST(the_clock_goes_on) {
    double start = clock_seconds();
    CHECK(clock_seconds() >= start);
}

TEST(a_failure_is_one_line) {
    CHECK_FAIL(fail("model %s: tensor %s", "a\nb", "\x1b[1m\x7f"), "model a?b: tensor ?[1m?");
}
