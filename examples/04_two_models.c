/* 04_two_models.c - two models in two threads, each with a cache of its own; the file's pages are
 * shared. A model is used by one thread at a time, and nothing else needs a lock.
 *
 *   cc examples/04_two_models.c $(pkg-config --cflags --libs picograd) -lpthread -o two  */
#include <picograd.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    const char *path, *prompt;
    char text[512], error[256];
} Job;

static bool keep(void *context, int32_t id, const char *text, size_t length) {
    Job *job = context;
    (void)id;
    strncat(job->text, text, length);
    return strlen(job->text) + 256 < sizeof job->text;  // a token is shorter
}

static void *run(void *context) {
    Job *job = context;
    PgModel *model = pg_model_open(job->path, 256);
    PgGenerate how = {.count = 12, .token = keep, .context = job};
    if (!model || pg_model_generate(model, job->prompt, &how) < 0)
        snprintf(job->error, sizeof job->error, "%s", pg_error());  // errors are a thread's own
    pg_model_close(model);
    return NULL;
}

int main(int count, char **argument) {
    const char *path = count > 1 ? argument[1] : "smollm2";
    Job jobs[] = {{.path = path, .prompt = "Once upon a time"},
                  {.path = path, .prompt = "The capital of France is"}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, run, &jobs[i]);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++) {
        if (*jobs[i].error) return fprintf(stderr, "%s\n", jobs[i].error), 1;
        printf("%s%s\n", jobs[i].prompt, jobs[i].text);
    }
    return 0;
}

/* Prints:
 *   Once upon a time, the city of Nova Haven was a thriving metropolis, with
 *   The capital of France is Paris.
 *
 *   The answer is: ...
 */
