/* llama_test.c - SmolLM2 against transformers in fp32 (tests/golden/llama.txt), and eager
 * against compiled. A greedy continuation is compared while the golden margin between the two
 * best logits is 0.01 or more; after a narrower one the two may rightly part. */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "models/models.h"
#include "test.h"

enum { TOP = 20, SAMPLE = 200, GREEDY = 64, PROMPT_MAX = 1024 };
typedef struct {
    char name[32];
    int prompts;
    int32_t prompt[PROMPT_MAX];
    double logsumexp;
    int32_t top[TOP], sample[SAMPLE], greedy[GREEDY];
    double top_logit[TOP], sample_logit[SAMPLE], margin[GREEDY];
} Case;

static Gguf *gguf;
static Arena *arena;

static void open_file(void) {
    if (!arena) arena = arena_new();
    const char *path = gguf ? NULL : models_find(arena, "smollm2");
    if (!gguf && !path) SKIP("smollm2 is not in the cache: picograd models pull smollm2");
    if (!gguf) gguf = gguf_open(path);
    CHECK(gguf != NULL);
}

static FILE *open_golden(void) {
    FILE *file = fopen("tests/golden/llama.txt", "r");
    CHECK(file != NULL);
    return file;
}

static void read_pairs(FILE *file, const char *word, int count, int32_t *id, double *value) {
    char found[32];
    int counted;
    CHECK(fscanf(file, "%31s %d", found, &counted) == 2);
    CHECK_TEXT(found, word);
    CHECK_INT(counted, count);
    for (int i = 0; i < count; i++) CHECK(fscanf(file, "%d %lf", &id[i], &value[i]) == 2);
}

static bool read_case(FILE *file, Case *golden) {
    char word[32];
    double rounding;
    if (fscanf(file, "%31s %31s text%*[^\n]", word, golden->name) != 2 || strcmp(word, "case"))
        return false;
    CHECK(fscanf(file, " prompt %d", &golden->prompts) == 1);
    CHECK(golden->prompts > 0 && golden->prompts <= PROMPT_MAX);
    for (int i = 0; i < golden->prompts; i++) CHECK(fscanf(file, "%d", &golden->prompt[i]) == 1);
    CHECK(fscanf(file, " logsumexp %lf rounding %lf", &golden->logsumexp, &rounding) == 2);
    read_pairs(file, "top", TOP, golden->top, golden->top_logit);
    read_pairs(file, "sample", SAMPLE, golden->sample, golden->sample_logit);
    read_pairs(file, "greedy", GREEDY, golden->greedy, golden->margin);
    CHECK(fscanf(file, "%31s", word) == 1);
    CHECK_TEXT(word, "end");
    return true;
}

static int32_t largest(const float *logits, int64_t count) {
    int64_t best = 0;
    for (int64_t i = 1; i < count; i++) best = logits[i] > logits[best] ? i : best;
    return (int32_t)best;
}

// Logits after the prompt, then the greedy continuation. Returns how many tokens were compared.
static int check_case(Llama *llama, const Case *golden, int tokens) {
    int64_t vocabulary = llama_config(llama)->vocabulary;
    float *logits = arena_array(arena, float, vocabulary);
    llama_rewind(llama, 0);
    CHECK_INT(llama_forward(llama, golden->prompt, golden->prompts, logits, NULL), 0);
    double sum = 0;
    for (int64_t i = 0; i < vocabulary; i++) sum += exp((double)logits[i] - golden->top_logit[0]);
    CHECK_NEAR(golden->top_logit[0] + log(sum), golden->logsumexp, 2e-3);
    for (int i = 0; i < TOP; i++) CHECK_NEAR(logits[golden->top[i]], golden->top_logit[i], 2e-3);
    for (int i = 0; i < SAMPLE; i++)
        CHECK_NEAR(logits[golden->sample[i]], golden->sample_logit[i], 2e-3);
    for (int i = 0; i < tokens; i++) {
        if (golden->margin[i] < 0.01) return i;
        CHECK_INT(largest(logits, vocabulary), golden->greedy[i]);
        CHECK_INT(llama_forward(llama, &golden->greedy[i], 1, logits, NULL), 0);
    }
    return tokens;
}

static void check_mode(PgMode mode, int cases, int tokens) {
    open_file();
    pg_set_mode(mode);
    Llama *llama = llama_open(gguf, 2048, 1);
    CHECK(llama != NULL);
    FILE *file = open_golden();
    Case golden;
    int done = 0, compared = 0;
    for (; done < cases && read_case(file, &golden); done++)
        compared += check_case(llama, &golden, tokens);
    fclose(file);
    llama_close(llama);
    CHECK_INT(done, cases);
    CHECK(compared >=
          cases * tokens / 2);  // near-ties end a comparison early, but not most of them
}

TEST(llama_graph_equals_transformers) { check_mode(PG_GRAPH, 9, GREEDY); }
#ifdef __SANITIZE_ADDRESS__
enum { EAGER_CASES = 2, EAGER_TOKENS = 8 };  // the interpreter takes seconds a token there
#else
enum { EAGER_CASES = 5, EAGER_TOKENS = GREEDY };
#endif
TEST(llama_eager_equals_transformers) { check_mode(PG_EAGER, EAGER_CASES, EAGER_TOKENS); }

TEST(llama_perplexity_equals_transformers) {
    open_file();
    FILE *file = open_golden();
    char word[32] = "";
    int32_t ids[256];
    int count = 0;
    double golden, loss = 0;
    while (fscanf(file, "%31s", word) == 1 && strcmp(word, "perplexity")) {
    }
    CHECK(fscanf(file, "%d", &count) == 1);
    CHECK_INT(count, 256);
    for (int i = 0; i < count; i++) CHECK(fscanf(file, "%d", &ids[i]) == 1);
    CHECK(fscanf(file, " nll %lf", &golden) == 1);
    fclose(file);
    pg_set_mode(PG_GRAPH);
    Llama *llama = llama_open(gguf, 512, 1);
    int64_t vocabulary = llama_config(llama)->vocabulary;
    float *logits = arena_array(arena, float, 255 * vocabulary);
    CHECK_INT(llama_forward(llama, ids, 255, NULL, logits), 0);
    for (int i = 0; i < 255; i++) {
        const float *row = logits + i * vocabulary;
        double top = row[largest(row, vocabulary)], sum = 0;
        for (int64_t j = 0; j < vocabulary; j++) sum += exp(row[j] - top);
        loss += top + log(sum) - row[ids[i + 1]];
    }
    llama_close(llama);
    CHECK_NEAR(loss / 255, golden, 1e-4);
}

// One decode step serves all positions, one prefill each chunk size.
TEST(llama_compiles_once) {
    open_file();
    pg_set_mode(PG_GRAPH);
    Llama *llama = llama_open(gguf, 256, 1);
    int64_t vocabulary = llama_config(llama)->vocabulary;
    float *logits = arena_array(arena, float, vocabulary);
    int32_t ids[20] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20};
    CHECK_INT(llama_forward(llama, ids, 1, logits, NULL), 0);
    int traces = llama_traces(llama);
    for (int i = 0; i < 10; i++) CHECK_INT(llama_forward(llama, ids + i, 1, logits, NULL), 0);
    CHECK_INT(llama_traces(llama), traces);
    CHECK_INT(llama_forward(llama, ids, 8, logits, NULL), 0);
    CHECK_INT(llama_forward(llama, ids, 7, logits, NULL), 0);
    CHECK_INT(llama_traces(llama), traces + 1);
    llama_close(llama);
}

TEST(llama_refuses_what_does_not_fit) {
    open_file();
    Llama *llama = llama_open(gguf, 16, 1);
    float logits[1];
    int32_t ids[17] = {0}, outside = 49152;
    CHECK_FAIL(llama_forward(llama, ids, 17, logits, NULL), "do not fit a context of 16");
    CHECK_FAIL(llama_forward(llama, &outside, 1, logits, NULL), "outside the vocabulary");
    CHECK_FAIL(llama_forward(llama, ids, 0, logits, NULL), "no tokens");
    llama_close(llama);
}

TEST(llama_random_weights_eager_equals_graph) {
    if (!arena) arena = arena_new();
    int32_t ids[3] = {5, 77, 4095};
    float *logits[2];
    for (int mode = 0; mode < 2; mode++) {
        pg_set_mode(mode ? PG_EAGER : PG_GRAPH);
        Llama *llama = llama_random(&random_models[0], 64, 1, 7);
        int64_t vocabulary = llama_config(llama)->vocabulary;
        logits[mode] = arena_array(arena, float, vocabulary);
        CHECK_INT(llama_forward(llama, ids, 3, logits[mode], NULL), 0);
        for (int64_t i = 0; i < vocabulary; i++) CHECK(isfinite(logits[mode][i]));
        llama_close(llama);
    }
    for (int i = 0; i < 49152; i += 97) CHECK_NEAR(logits[0][i], logits[1][i], 1e-3);
}

// Sequences of different length, padded at the front, beside each one alone.
enum { TOGETHER = 3, LONGEST = 12, STEPS = 3 };
static const int64_t lengths[TOGETHER] = {12, 3, 7};

static int32_t some_id(int64_t sequence, int64_t at) {
    return (int32_t)(1000 + 977 * sequence + 31 * at * at);
}

static void run_alone(int64_t sequence, float *logits[STEPS + 1]) {
    Llama *llama = llama_open(gguf, 64, 1);
    int32_t ids[LONGEST];
    for (int64_t i = 0; i < lengths[sequence]; i++) ids[i] = some_id(sequence, i);
    CHECK_INT(llama_forward(llama, ids, lengths[sequence], logits[0], NULL), 0);
    for (int i = 0; i < STEPS; i++) {
        int32_t id = some_id(sequence, lengths[sequence] + i);
        CHECK_INT(llama_forward(llama, &id, 1, logits[i + 1], NULL), 0);
    }
    llama_close(llama);
}

static void check_row(const float *got, const float *expected) {
    for (int i = 0; i < 49152; i += 7) CHECK_NEAR(got[i], expected[i], 2e-3);
}

TEST(llama_sequences_in_step_equal_each_alone) {
    open_file();
    pg_set_mode(PG_GRAPH);
    float *alone[TOGETHER][STEPS + 1], *together = arena_array(arena, float, TOGETHER * 49152);
    for (int i = 0; i < TOGETHER; i++) {
        for (int j = 0; j <= STEPS; j++) alone[i][j] = arena_array(arena, float, 49152);
        run_alone(i, alone[i]);
    }
    Llama *llama = llama_open(gguf, 64, TOGETHER);
    int64_t padding[TOGETHER];
    int32_t ids[TOGETHER * LONGEST] = {0};
    for (int i = 0; i < TOGETHER; i++) {
        padding[i] = LONGEST - lengths[i];
        for (int64_t j = 0; j < lengths[i]; j++) ids[i * LONGEST + padding[i] + j] = some_id(i, j);
    }
    llama_begin(llama, padding);
    CHECK_INT(llama_forward(llama, ids, LONGEST, together, NULL), 0);
    for (int i = 0; i < TOGETHER; i++) check_row(together + i * 49152, alone[i][0]);
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < TOGETHER; i++) ids[i] = some_id(i, lengths[i] + step);
        CHECK_INT(llama_forward(llama, ids, 1, together, NULL), 0);
        for (int i = 0; i < TOGETHER; i++) check_row(together + i * 49152, alone[i][step + 1]);
    }
    llama_close(llama);
}

// Without layers that look at forgotten tokens, what is shifted would be as if newly read; with
// them, only the first layer's keys and values are. Forgetting all but the first tokens equals
// having read those alone.
TEST(llama_shift_forgets) {
    open_file();
    pg_set_mode(PG_GRAPH);
    Llama *llama = llama_open(gguf, 64, 1);
    int32_t ids[LONGEST + 1];
    float *expected = arena_array(arena, float, 49152), *got = arena_array(arena, float, 49152);
    for (int i = 0; i <= LONGEST; i++) ids[i] = some_id(0, i);
    CHECK_INT(llama_forward(llama, ids, 5, NULL, NULL), 0);
    CHECK_INT(llama_forward(llama, ids + LONGEST, 1, expected, NULL), 0);
    llama_rewind(llama, 0);
    CHECK_INT(llama_forward(llama, ids, LONGEST, NULL, NULL), 0);
    llama_shift(llama, 5, LONGEST - 5);
    CHECK_INT(llama_position(llama), 5);
    CHECK_INT(llama_forward(llama, ids + LONGEST, 1, got, NULL), 0);
    check_row(got, expected);
    CHECK_FATAL_TEXT(llama_shift(llama, 5, 2), "2 tokens after the first 5, of 6");
    llama_close(llama);
}

// ---- states ------------------------------------------------------------------------------------
static const char *state_file(void) {
    return arena_print(arena, "/tmp/picograd-state-%d", (int)getpid());
}

TEST(llama_state_resumes) {
    open_file();
    pg_set_mode(PG_GRAPH);
    Llama *llama = llama_open(gguf, 64, 1);
    float *expected = arena_array(arena, float, 49152), *got = arena_array(arena, float, 49152);
    int32_t ids[LONGEST + 1];
    for (int i = 0; i <= LONGEST; i++) ids[i] = some_id(0, i);
    CHECK_INT(llama_forward(llama, ids, LONGEST, NULL, NULL), 0);
    CHECK_INT(llama_save(llama, state_file(), ids, (TextSpan){"and more", 8}), 0);
    CHECK_INT(llama_forward(llama, ids + LONGEST, 1, expected, NULL), 0);
    llama_close(llama);
    IdList found = {0};
    TextSpan extra;
    llama = llama_open(gguf, 32, 1);
    CHECK_INT(llama_restore(llama, state_file(), arena, &found, &extra), 0);
    CHECK_INT(llama_position(llama), LONGEST);
    CHECK_INT(found.count, LONGEST);
    for (int i = 0; i < LONGEST; i++) CHECK_INT(found.at[i], ids[i]);
    CHECK_INT(extra.length, 8);
    CHECK(!memcmp(extra.at, "and more", 8));
    CHECK_INT(llama_forward(llama, ids + LONGEST, 1, got, NULL), 0);
    for (int i = 0; i < 49152; i++) CHECK(got[i] == expected[i]);
    llama_close(llama);
}

static void check_refused(Llama *llama, const char *bytes, size_t size, const char *why) {
    IdList found = {0};
    TextSpan extra;
    const char *path = arena_print(arena, "%s.bad", state_file());
    CHECK_INT(file_write(path, bytes, size), 0);
    CHECK_FAIL(llama_restore(llama, path, arena, &found, &extra), why);
    CHECK_INT(llama_position(llama), 0);
    remove(path);
}

TEST(llama_state_of_another_kind_is_refused) {
    open_file();
    Llama *llama = llama_open(gguf, 64, 1), *other = llama_random(&random_models[0], 64, 1, 1);
    Llama *small = llama_open(gguf, 4, 1);
    size_t size;
    char *bytes = file_read(arena, state_file(), &size);
    CHECK(bytes != NULL);
    check_refused(llama, bytes, size - 1, "cut short or damaged");
    check_refused(llama, bytes, 40, "not a saved state");
    check_refused(other, bytes, size, "of another model");
    check_refused(small, bytes, size, "does not fit a context of 4");
    for (size_t at = 0; at < size; at += at < 200 ? 1 : size / 50) {
        bytes[at] ^= 1;
        check_refused(llama, bytes, size, "");
        bytes[at] ^= 1;
    }
    remove(state_file());
    llama_close(llama);
    llama_close(other);
    llama_close(small);
}
