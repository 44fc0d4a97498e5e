/* 01_generate.c - a language model continues a text.
 *
 *   picograd models pull smollm2
 *   cc examples/01_generate.c $(pkg-config --cflags --libs picograd) -o generate && ./generate  */
#include <picograd.h>
#include <stdio.h>

int main(int count, char **argument) {
    PgModel *model = pg_model_open(count > 1 ? argument[1] : "smollm2", 0);
    PgGenerate how = {.count = 24};  // tokens; all else as it comes: the likeliest, to stdout
    if (model && pg_model_generate(model, "The three laws of thermodynamics say that", &how) >= 0)
        return pg_model_close(model), 0;
    fprintf(stderr, "%s\n", pg_error());
    return 1;
}

/* Prints:
 *    the universe is governed by the second law of thermodynamics. This law is often ...
 */
