/* model_test.c - the model layer of picograd.h, as a program would use it. */
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "models/models.h"
#include "picograd.h"
#include "runtime/runtime.h"
#include "test.h"

enum { VOCABULARY = 49152, IDS = 64 };

static PgModel *open_model(int64_t context) {
    NEEDS_PCRE2;
    Arena *arena = arena_new();
    const char *path = models_find(arena, "smollm2");
    arena_free(arena);
    if (!path) SKIP("smollm2 is not in the cache: picograd models pull smollm2");
    pg_set_mode(PG_GRAPH);
    PgModel *model = pg_model_open("smollm2", context);
    CHECK(model != NULL);
    return model;
}

typedef struct {
    char text[1024];
    int32_t ids[IDS];
    int count, most;
} Heard;

static bool hear(void *context, int32_t id, const char *text, size_t length) {
    Heard *heard = context;
    size_t end = strlen(heard->text);
    CHECK(end + length < sizeof heard->text);
    memcpy(heard->text + end, text, length);
    heard->text[end + length] = 0;
    if (id >= 0) heard->ids[heard->count++] = id;
    return heard->count < heard->most;
}

static const char story[] = "Once upon a time";
static const char continued[] = ", the city of Nova Haven";

static PgGenerate quietly(Heard *heard, int64_t count) {
    *heard = (Heard){.most = IDS};
    return (PgGenerate){.count = count, .token = hear, .context = heard};
}

TEST(a_model_generates) {
    PgModel *model = open_model(128);
    Heard heard;
    PgGenerate how = quietly(&heard, 6);
    CHECK_INT(pg_model_generate(model, story, &how), 6);
    CHECK_TEXT(heard.text, continued);
    CHECK_INT(heard.count, 6);
    CHECK_INT(pg_model_position(model), 4 + 6);
    CHECK_INT(pg_model_context(model), 128);
    CHECK_INT(pg_model_vocabulary(model), VOCABULARY);
    pg_model_close(model);
}

// prefill, decode and sample, by hand, choose the same tokens as the loop.
TEST(the_loop_by_hand) {
    PgModel *model = open_model(128);
    int32_t ids[IDS];
    char text[256] = "", piece[64];
    static float logits[VOCABULARY];
    PgSampler *sampler = pg_sampler_new((PgSampling){0});
    CHECK_INT(pg_model_tokenize(model, story, strlen(story), false, ids, 2), 4);
    CHECK_INT(pg_model_tokenize(model, story, strlen(story), false, ids, IDS), 4);
    CHECK_INT(pg_model_prefill(model, ids, 4, logits), 0);
    for (int i = 0; i < 6; i++) {
        int32_t id = pg_sample(sampler, logits, VOCABULARY, NULL, 0);
        CHECK(!pg_model_is_end(model, id));
        CHECK(pg_model_piece(model, id, piece, sizeof piece) < sizeof piece);
        strcat(text, piece);
        CHECK_INT(pg_model_decode(model, id, logits), 0);
    }
    CHECK_TEXT(text, continued);
    CHECK_INT(pg_model_position(model), 10);
    pg_model_rewind(model, 4);
    CHECK_INT(pg_model_position(model), 4);
    CHECK_INT(pg_model_piece(model, ids[0], piece, 3), 4);  // "Once"
    CHECK_TEXT(piece, "On");
    pg_sampler_free(sampler);
    pg_model_close(model);
}

// What was chosen last need not be given again: the next call goes on behind it.
TEST(a_generation_goes_on) {
    PgModel *model = open_model(128);
    Heard heard;
    PgGenerate how = quietly(&heard, 3);
    CHECK_INT(pg_model_generate(model, story, &how), 3);
    how.count = 3;
    CHECK_INT(pg_model_generate(model, "", &how), 3);
    CHECK_TEXT(heard.text, continued);
    how.stop = "thriv";
    CHECK(pg_model_generate(model, "", &how) > 0);
    CHECK_TEXT(heard.text, ", the city of Nova Haven was a ");
    pg_model_close(model);
}

TEST(a_callback_cancels) {
    PgModel *model = open_model(128);
    Heard heard;
    PgGenerate how = quietly(&heard, 20);
    heard.most = 2;
    CHECK_INT(pg_model_generate(model, story, &how), 2);
    CHECK_TEXT(heard.text, ", the");
    pg_model_close(model);
}

TEST(a_seed_reproduces) {
    PgModel *model = open_model(128);
    Heard heard[3];
    for (int i = 0; i < 3; i++) {
        PgGenerate how = quietly(&heard[i], 8);
        how.sampling = (PgSampling){.temperature = 1.5, .seed = i < 2 ? 7 : 8};
        pg_model_rewind(model, 0);
        CHECK(pg_model_generate(model, story, &how) > 0);
    }
    CHECK_TEXT(heard[0].text, heard[1].text);
    CHECK(strcmp(heard[0].text, heard[2].text) != 0);
    pg_model_close(model);
}

TEST(what_does_not_fit_is_refused_and_forgotten) {
    PgModel *model = open_model(16);
    Heard heard;
    PgGenerate how = quietly(&heard, 4);
    CHECK_FAIL(pg_model_generate(model, "a b c d e f g h i j k l m n o p q r s", &how),
               "do not fit a context of 16");
    CHECK_INT(pg_model_position(model), 0);
    CHECK_INT(pg_model_generate(model, story, &how), 4);
    CHECK(!pg_model_open("no/such/model.gguf", 0));
    CHECK(strstr(pg_error(), "no/such/model.gguf") != NULL);
    pg_model_close(model);
    pg_model_close(NULL);
}

TEST(a_model_is_saved_and_loaded) {
    PgModel *model = open_model(128);
    char path[64];
    snprintf(path, sizeof path, "/tmp/picograd-model-%d", (int)getpid());
    static float logits[VOCABULARY], again[VOCABULARY];
    int32_t ids[IDS];
    int64_t count = pg_model_tokenize(model, story, strlen(story), false, ids, IDS);
    CHECK_INT(pg_model_prefill(model, ids, count, NULL), 0);
    CHECK_INT(pg_model_save(model, path), 0);
    CHECK_INT(pg_model_decode(model, 42, logits), 0);
    pg_model_close(model);
    model = open_model(128);
    CHECK_INT(pg_model_load(model, path), 0);
    CHECK_INT(pg_model_position(model), count);
    CHECK_INT(pg_model_decode(model, 42, again), 0);
    CHECK(!memcmp(logits, again, sizeof logits));
    pg_model_close(model);
    unlink(path);
}

static void *tell(void *context) {
    pg_set_mode(PG_GRAPH);
    PgModel *model = pg_model_open("smollm2", 64);
    Heard *heard = context;
    PgGenerate how = quietly(heard, 6);
    if (!model || pg_model_generate(model, story, &how) != 6) strcpy(heard->text, pg_error());
    pg_model_close(model);
    return NULL;
}

TEST(two_models_in_two_threads) {
    pg_model_close(open_model(64));
    pthread_t thread[2];
    static Heard heard[2];
    for (int i = 0; i < 2; i++) CHECK_INT(pthread_create(&thread[i], NULL, tell, &heard[i]), 0);
    for (int i = 0; i < 2; i++) CHECK_INT(pthread_join(thread[i], NULL), 0);
    for (int i = 0; i < 2; i++) CHECK_TEXT(heard[i].text, continued);
}

TEST(a_closed_model_leaves_no_memory) {
    pg_model_close(open_model(64));
    int64_t before = buffer_live_bytes();
    for (int i = 0; i < 3; i++) pg_model_close(open_model(64));
    CHECK_INT(buffer_live_bytes(), before);
}
