/* output.c - a file too large to be made in memory first, written in parts.
 * In: bytes, in order.  Out: a file.
 * Invariant: it appears under its name whole or not at all; until then it has another, beside it.
 *   OutputFile *out = output_open("state");  output_add(out, bytes, 12);  output_finish(out)     */
#include "io/io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct OutputFile {
    FILE *file;
    Arena *arena;
    const char *path, *temporary;
};

OutputFile *output_open(const char *path) {
    struct stat facts;
    if (!stat(path, &facts) && !S_ISREG(facts.st_mode)) {
        fail("cannot write %s: it is not a regular file", path);
        return NULL;
    }
    Arena *arena = arena_new();
    OutputFile *output = arena_object(arena, OutputFile);
    *output = (OutputFile){.arena = arena, .path = arena_text(arena, path)};
    output->temporary = arena_print(arena, "%s.%d.tmp", path, (int)getpid());
    output->file = fopen(output->temporary, "wbx");
    if (output->file) return output;
    fail("cannot write %s: %s", output->temporary, strerror(errno));
    arena_free(arena);
    return NULL;
}

// Errors stay in the stream and are looked at once, at the end.
void output_add(OutputFile *output, const void *bytes, size_t count) {
    fwrite(bytes, 1, count, output->file);
}

bool output_failed(const OutputFile *output) { return ferror(output->file); }

void output_give_up(OutputFile *output) {
    if (!output) return;
    fclose(output->file);
    unlink(output->temporary);
    arena_free(output->arena);
}

int output_finish(OutputFile *output) {
    FILE *file = output->file;
    int error = fflush(file) || fsync(fileno(file)) || ferror(file) ? errno : 0;
    if (fclose(file) && !error) error = errno;
    if (!error && rename(output->temporary, output->path)) error = errno;
    if (error) unlink(output->temporary);
    int status = error ? fail("cannot write %s: %s", output->path, strerror(error)) : 0;
    arena_free(output->arena);
    return status;
}
