/* env.c - switches from the environment.
 * In: PG_<NAME>.  Out: its text or integer; an empty value counts as unset.
 *   PG_DEBUG=2 picograd explain matmul:256      env_int("DEBUG", 0) == 2       */
#include "base/base.h"

#include <errno.h>
#include <stdlib.h>

const char *env_text(const char *name, const char *fallback) {
    char full[64];
    if (snprintf(full, sizeof full, "PG_%s", name) >= (int)sizeof full)
        fatal("env: the name PG_%s is too long", name);
    const char *value = getenv(full);
    return value && *value ? value : fallback;
}

int64_t env_int(const char *name, int64_t fallback) {
    const char *text = env_text(name, NULL);
    if (!text) return fallback;
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || *end || end == text)
        fatal("PG_%s is '%s', which is not an integer. Hint: try PG_%s=1", name, text, name);
    return value;
}

// Asked at every allocation, so looked up once.
bool hostile(void) {
    static atomic_int known;  // 0 not yet, 1 no, 2 yes
    int state = atomic_load_explicit(&known, memory_order_relaxed);
    if (!state) {
        state = env_int("HOSTILE", 0) ? 2 : 1;
        atomic_store_explicit(&known, state, memory_order_relaxed);
    }
    return state == 2;
}
