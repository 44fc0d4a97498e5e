/* device.c - where compiled functions run.
 * In: a name.  Out: the device that this process computes on from now on.
 * Invariant: what cannot be had is refused here, with how to get it, before any work.
 *   device_set("cuda:1")   =>   DEVICE_CUDA, number 1                                            */
#include "runtime/runtime.h"

#include <string.h>

static const Device cpu = {DEVICE_CPU, 0, "cpu"}, simt = {DEVICE_SIMT, 0, "simt"};
static _Atomic(const Device *) chosen;

int device_set(const char *name) {
    if (!strcmp(name, "cpu") || !strcmp(name, "simt")) {
        atomic_store(&chosen, *name == 'c' ? &cpu : &simt);
        return 0;
    }
    return fail("there is no device %.60s. Hint: cpu or simt", name);
}

const Device *device(void) {
    const Device *known = atomic_load(&chosen);
    if (known) return known;
    if (device_set(env_text("DEVICE", "cpu"))) fatal("PG_DEVICE: %s", error_text());
    return atomic_load(&chosen);
}
