/* device.c - where compiled functions run.
 * In: a name.  Out: the device that this process computes on from now on.
 * Invariant: what cannot be had is refused here, with how to get it, before any work.
 *   device_set("cuda:1")   =>   DEVICE_CUDA, number 1                                            */
#include "runtime/runtime.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { GPUS = 64 };
static const Device cpu = {DEVICE_CPU, 0, "cpu", NULL}, simt = {DEVICE_SIMT, 0, "simt", NULL};
static struct {
    Device device;
    char name[sizeof "cuda:63"];
} gpus[GPUS];
static _Atomic(const Device *) chosen;

static const Device *find_gpu(int number) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    Cuda *gpu = cuda_open(number);
    if (!gpu) return NULL;
    const CudaInfo *info = cuda_facts(gpu);
    if (info->major < DEVICE_CAPABILITY) {
        fail("cuda:%d, %s, has compute capability %d.%d, and kernels need %d.0. Hint: --device cpu",
             number, info->name, info->major, info->minor, DEVICE_CAPABILITY);
        return NULL;
    }
    if (!nvrtc_available()) return NULL;
    pthread_mutex_lock(&lock);
    if (!gpus[number].device.gpu) {
        snprintf(gpus[number].name, sizeof gpus[number].name, "cuda:%d", number);
        gpus[number].device = (Device){DEVICE_CUDA, number, gpus[number].name, gpu};
    }
    pthread_mutex_unlock(&lock);
    return &gpus[number].device;
}

// The N of cuda:N, 0 of cuda; -1 if it is neither.
static int gpu_number(const char *name) {
    if (strncmp(name, "cuda", 4)) return -1;
    if (!name[4]) return 0;
    size_t digits = name[4] == ':' ? strspn(name + 5, "0123456789") : 0;
    if (!digits || name[5 + digits]) return -1;
    return digits <= 2 ? atoi(name + 5) : GPUS;
}

bool device_is_name(const char *name) {
    return !strcmp(name, cpu.name) || !strcmp(name, simt.name) || gpu_number(name) >= 0;
}

int device_set(const char *name) {
    int number = gpu_number(name);
    const Device *wanted = !strcmp(name, cpu.name) ? &cpu : !strcmp(name, simt.name) ? &simt : NULL;
    if (number >= GPUS) return fail("there is no %.60s: cuda:%d is the last", name, GPUS - 1);
    if (number >= 0 && !(wanted = find_gpu(number))) return -1;
    if (!wanted) return fail("there is no device %.60s. Hint: cpu, simt, cuda or cuda:N", name);
    atomic_store(&chosen, wanted);
    return 0;
}

const Device *device(void) {
    const Device *known = atomic_load(&chosen);
    if (known) return known;
    if (device_set(env_text("DEVICE", "cpu"))) fatal("PG_DEVICE: %s", error_text());
    return atomic_load(&chosen);
}
