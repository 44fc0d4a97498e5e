/* examples_test.c - the numbered examples print what they say. */
#include "test.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define main micrograd_main
#include "../../examples/00_micrograd.c"
#undef main

// What function() writes to standard output.
static char *output_of(int (*function)(void), int *status) {
    static char text[4096];
    FILE *file = tmpfile();
    CHECK(file != NULL);
    fflush(stdout);
    int saved = dup(1);
    dup2(fileno(file), 1);
    *status = function();
    fflush(stdout);
    dup2(saved, 1);
    close(saved);
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    return text;
}

TEST(micrograd_readme) {
    int status;
    char *text = output_of(micrograd_main, &status);
    CHECK_INT(status, 0);
    const char *numbers = "g      24.7041\n"
                          "a.grad 138.8338\n"
                          "b.grad 645.5773\n";
    CHECK(!strncmp(text, numbers, strlen(numbers)));
    text += strlen(numbers);
    // The first of the three pairs is the same, eager and compiled.
    for (int i = 0; i < 2; i++) {
        const char *starts[] = {"[  24.7041 ", "[ 138.8338 ", "[   645.5773 "};
        for (int j = 0; j < 3; j++) {
            CHECK(!strncmp(text, starts[j], strlen(starts[j])));
            text = strchr(text, '\n') + 1;
        }
    }
    CHECK_TEXT(text, "");
}
