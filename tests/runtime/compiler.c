/* compiler.c - a stand-in for NVRTC, a library of its own: texts become C for simt, and their
 * cubins name it for driver.c.
 * In: a rendered text; STAND_IN_FOLDER; PG_CC.  Out: a cubin: the path of a library, then a line
 * for each kernel: its name, how many parameters, how many threads.                            */
#define _GNU_SOURCE
#include "stand_in.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    const char *source;
    char cubin[16384], log[16384];
} Program;

#define PUBLIC __attribute__((visibility("default")))
PUBLIC int nvrtcVersion(int *major, int *minor);
PUBLIC const char *nvrtcGetErrorString(int result);
PUBLIC int nvrtcCreateProgram(Program **program, const char *source, const char *name, int headers,
                              const char *const *header, const char *const *include);
PUBLIC int nvrtcDestroyProgram(Program **program);
PUBLIC int nvrtcCompileProgram(Program *program, int count, const char *const *option);
PUBLIC int nvrtcGetProgramLogSize(Program *program, size_t *size);
PUBLIC int nvrtcGetProgramLog(Program *program, char *log);
PUBLIC int nvrtcGetCUBINSize(Program *program, size_t *size);
PUBLIC int nvrtcGetCUBIN(Program *program, char *cubin);

int nvrtcVersion(int *major, int *minor) { return *major = 13, *minor = 0, 0; }
const char *nvrtcGetErrorString(int result) { return result ? "it does not compile" : "done"; }

int nvrtcCreateProgram(Program **program, const char *source, const char *name, int headers,
                       const char *const *header, const char *const *include) {
    (void)name, (void)headers, (void)header, (void)include;
    *program = calloc(1, sizeof **program);
    (*program)->source = source;
    return 0;
}

int nvrtcDestroyProgram(Program **program) { return free(*program), 0; }

// Its kernels: KERNEL(256) pg_k_12_0(SELF const f32 *a, f32 *c) {
static void add_kernels(Program *program) {
    static const char head[] = "\nKERNEL(";
    for (const char *at = program->source; (at = strstr(at, head));) {
        char name[64];
        unsigned threads;
        int length = 0, params = 1;
        if (sscanf(at += strlen(head), "%u) %63[a-z0-9_](%n", &threads, name, &length) != 2)
            continue;
        for (at += length; *at && *at != ')'; at++) params += *at == ',';
        sprintf(strchr(program->cubin, 0), "%s %d %u\n", name, params, threads);
        sprintf(strchr(program->log, 0),
                "ptxas info    : Compiling entry function '%s' for 'sm_90a'\n"
                "ptxas info    : Used 32 registers\n",
                name);
    }
}

int nvrtcCompileProgram(Program *program, int count, const char *const *option) {
    static _Atomic int number;
    const char *folder = getenv("STAND_IN_FOLDER"), *compiler = getenv("PG_CC");
    char path[256], command[1024];
    if (count < 1 || strcmp(option[0], "--gpu-architecture=sm_90a")) return 5;
    snprintf(path, sizeof path, "%s/%d-%d.c", folder, (int)getpid(), number++);
    FILE *file = fopen(path, "w");
    if (!file || fputs(program->source, file) < 0 || fclose(file)) return 1;
    snprintf(command, sizeof command,
             "%s -std=gnu11 -O1 -w -fPIC -shared -ffp-contract=off -fno-math-errno "
             "-fno-trapping-math -fno-tree-slp-vectorize -o %s.so %s",
             compiler && *compiler ? compiler : "cc", path, path);
    if (system(command)) return 6;
    snprintf(program->cubin, sizeof program->cubin, "%s%s.so\n", STAND_IN_CUBIN, path);
    add_kernels(program);
    return 0;
}

int nvrtcGetProgramLogSize(Program *program, size_t *size) {
    return *size = strlen(program->log) + 1, 0;
}
int nvrtcGetProgramLog(Program *program, char *log) { return strcpy(log, program->log), 0; }
int nvrtcGetCUBINSize(Program *program, size_t *size) {
    return *size = strlen(program->cubin) + 1, 0;
}
int nvrtcGetCUBIN(Program *program, char *cubin) { return strcpy(cubin, program->cubin), 0; }
