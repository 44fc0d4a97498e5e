/* 02_chat.c - a conversation: the model remembers what it has read, each answer is shown as it
 * comes, and Ctrl-C ends an answer but not the program. The template is ChatML, as SmolLM2 was
 * trained on it; `picograd chat` knows others.
 *
 *   cc examples/02_chat.c $(pkg-config --cflags --libs picograd) -o chat
 *   echo "What is the capital of France?" | ./chat                                              */
#include <picograd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static PgModel *model;

static void on_interrupt(int number) {
    (void)number;
    pg_model_cancel(model);
}

// Called with each token: what can be shown now, in whole characters. False would end the answer.
static bool show(void *context, int32_t id, const char *text, size_t length) {
    (void)id;
    *(size_t *)context += length;
    fwrite(text, 1, length, stdout);
    return !fflush(stdout);
}

int main(int count, char **argument) {
    char line[1024], prompt[1200];
    size_t shown;
    PgGenerate how = {
        .sampling = {.temperature = 0.2, .seed = 1},
        .special = true,  // <|im_start|> is a token; a program with strangers' text takes care here
        .token = show,
        .context = &shown,
    };
    model = pg_model_open(count > 1 ? argument[1] : "smollm2", 0);
    if (!model) return fprintf(stderr, "%s\n", pg_error()), 1;
    signal(SIGINT, on_interrupt);
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        // The answer before ended without the token that ends a turn.
        snprintf(prompt, sizeof prompt, "%s<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n",
                 pg_model_position(model) ? "<|im_end|>\n" : "", line);
        shown = 0;
        if (pg_model_generate(model, prompt, &how) < 0)
            return fprintf(stderr, "%s\n", pg_error()), 1;
        printf("\n(%zu bytes; %lld tokens read so far)\n", shown,
               (long long)pg_model_position(model));
    }
    pg_model_close(model);
    return 0;
}

/* Reads:
 *   What is the capital of France?
 *   And of Spain?
 */
/* Prints:
 *   The capital of France is Paris.
 *   (31 bytes; 23 tokens read so far)
 *   The capital of Spain is Madrid.
 *   (31 bytes; 45 tokens read so far)
 */
