/* secret.c - a number that nobody who makes a file can know.
 * In: the system's random numbers.  Out: one number, the same for the whole process.
 * Invariant: hashes of names and texts from files begin with it, so that no file can be made whose
 * names all fall into one place of a map, where finding one means looking at all.
 *   map_find(map, hash_bytes(name, length, secret()), ...)
 * Source: S. Crosby, D. Wallach, Denial of Service via Algorithmic Complexity Attacks (2003).    */
#include "io/io.h"

#include <pthread.h>
#include <sys/random.h>
#include <unistd.h>

static uint64_t number;

// Where the system has no random numbers yet, what differs between processes has to do.
static void choose(void) {
    if (getrandom(&number, sizeof number, GRND_NONBLOCK) == (ssize_t)sizeof number) return;
    const uint64_t facts[] = {(uint64_t)(clock_seconds() * 1e9), (uint64_t)getpid(),
                              (uint64_t)(uintptr_t)&number};
    number = hash_bytes(facts, sizeof facts, 0);
}

uint64_t secret(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, choose);
    return number;
}
