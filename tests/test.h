/* test.h - TEST and CHECK over cmocka. A file tests/<layer>/<what>_test.c is a program of its own:
 *   #include "test.h"
 *   TEST(add_commutes) { CHECK_INT(add(2, 3), add(3, 2)); }
 * and `build/tests/<layer>/<what>_test add` runs its tests with `add` in their names.
 * A CHECK that does not hold ends its test. A fatal that no CHECK_FATAL expects does, too.    */
#ifndef PICOGRAD_TEST_H
#define PICOGRAD_TEST_H
#include "base/base.h"

#include <setjmp.h>

#define TEST(name)                                                      \
    static void test_##name(void);                                      \
    __attribute__((constructor)) static void test_add_##name(void);     \
    static void test_add_##name(void) { test_add(#name, test_##name); } \
    static void test_##name(void)

#define CHECK(condition)        check((condition), #condition, __FILE__, __LINE__)
#define CHECK_INT(got, wanted)  check_int((got), (wanted), #got, __FILE__, __LINE__)
#define CHECK_TEXT(got, wanted) check_text((got), (wanted), #got, __FILE__, __LINE__)
// Equal within an absolute tolerance; infinities by sign; a NaN equals only a NaN.
#define CHECK_NEAR(got, wanted, tolerance) \
    check_near((got), (wanted), (tolerance), #got, __FILE__, __LINE__)
// The outside world refuses: -1, and the message has `part` in it.
#define CHECK_FAIL(call, part) check_fail((call), (part), #call, __FILE__, __LINE__)
// Misuse stops. A setjmp here, since the expression uses the test's locals; those that it changes
// are lost.
#define CHECK_FATAL(expression) CHECK_FATAL_TEXT(expression, "")
#define CHECK_FATAL_TEXT(expression, part)                                    \
    do {                                                                      \
        test_fatal_wanted = true;                                             \
        if (!setjmp(test_fatal_place)) {                                      \
            (void)(expression);                                               \
            check(false, #expression " should be fatal", __FILE__, __LINE__); \
        }                                                                     \
        check_part(error_text(), (part), #expression, __FILE__, __LINE__);    \
    } while (0)
// Ends the test; the runner prints the reason.
#define SKIP(reason) test_skip(reason)
#ifdef PG_HAVE_PCRE2
#define NEEDS_PCRE2
#else
#define NEEDS_PCRE2 SKIP("this build has no PCRE2, which tokenizers need")
#endif

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wclobbered"  // of CHECK_FATAL; see there
#endif

extern jmp_buf test_fatal_place;
extern bool test_fatal_wanted;

void test_add(const char *name, void (*run)(void));
_Noreturn void test_skip(const char *reason);
void check(bool holds, const char *what, const char *file, int line);
void check_int(int64_t got, int64_t wanted, const char *what, const char *file, int line);
void check_near(double got, double wanted, double tolerance, const char *what, const char *file,
                int line);
void check_text(const char *got, const char *wanted, const char *what, const char *file, int line);
void check_part(const char *got, const char *part, const char *what, const char *file, int line);
void check_fail(int got, const char *part, const char *what, const char *file, int line);
#endif
