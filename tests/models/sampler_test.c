// Each cut beside numbers worked out by hand: logits are logarithms of 1/2, 1/4, 1/8, 1/8 and the
// like, so that chances are known.
#include "models/models.h"
#include "test.h"

#include <math.h>
#include <string.h>

enum { FEW = 4 };
static const double chance[FEW] = {0.125, 0.5, 0.25, 0.125};

static void logits_of(const double *chances, int count, float *logits) {
    for (int i = 0; i < count; i++) logits[i] = (float)log(chances[i]);
}

#pragma GCC diagnostic ignored "-Woverride-init"  // of OPEN and then what a test is about
// Everything is left as it is.
#define OPEN .temperature = 1, .typical_p = 1, .top_p = 1, .repeat_penalty = 1, .repeat_last = -1

// "0:0.1250 1:0.5000": what a sampler would draw from, after this history.
static const char *choices_after(Sampler sampler, const double *chances, int count,
                                 const int32_t *history, int64_t seen) {
    static char shown[256];
    float logits[64];
    int64_t choices;
    int length = 0;
    logits_of(chances, count, logits);
    const SamplerChoice *choice = sampler_choices(&sampler, logits, count, history, seen, &choices);
    shown[0] = 0;
    for (int64_t i = 0; i < choices && length < 200; i++)
        length += snprintf(shown + length, sizeof shown - (size_t)length, "%s%d:%.4f", i ? " " : "",
                           choice[i].id, choice[i].chance);
    sampler_free(&sampler);
    return shown;
}
static const char *choices_of(Sampler sampler) {
    return choices_after(sampler, chance, FEW, NULL, 0);
}

TEST(open_is_softmax) {
    CHECK_TEXT(choices_of((Sampler){OPEN}), "0:0.1250 1:0.5000 2:0.2500 3:0.1250");
}

TEST(temperature_0_takes_the_first_of_the_largest) {
    CHECK_TEXT(choices_of((Sampler){OPEN, .temperature = 0}), "1:1.0000");
    static const double equals[] = {0.1, 0.3, 0.3, 0.3};
    CHECK_TEXT(choices_after((Sampler){OPEN, .temperature = 0}, equals, 4, NULL, 0), "1:1.0000");
}

// Half: chances squared, over 1/64 + 1/4 + 1/16 + 1/64 = 22/64.
TEST(temperature_is_a_power) {
    CHECK_TEXT(choices_of((Sampler){OPEN, .temperature = 0.5}),
               "0:0.0455 1:0.7273 2:0.1818 3:0.0455");
}

TEST(top_k_keeps_the_lower_id_of_equals) {
    CHECK_TEXT(choices_of((Sampler){OPEN, .top_k = 1}), "1:1.0000");
    CHECK_TEXT(choices_of((Sampler){OPEN, .top_k = 2}), "1:0.6667 2:0.3333");
    CHECK_TEXT(choices_of((Sampler){OPEN, .top_k = 3}), "0:0.1429 1:0.5714 2:0.2857");
    CHECK_TEXT(choices_of((Sampler){OPEN, .top_k = 99}), "0:0.1250 1:0.5000 2:0.2500 3:0.1250");
}

TEST(top_p_keeps_what_reaches_p) {
    CHECK_TEXT(choices_of((Sampler){OPEN, .top_p = 0}), "1:1.0000");
    CHECK_TEXT(choices_of((Sampler){OPEN, .top_p = 0.49}), "1:1.0000");
    CHECK_TEXT(choices_of((Sampler){OPEN, .top_p = 0.51}), "1:0.6667 2:0.3333");
    CHECK_TEXT(choices_of((Sampler){OPEN, .top_p = 0.8}), "0:0.1429 1:0.5714 2:0.2857");
    CHECK_TEXT(choices_of((Sampler){OPEN, .top_p = 0.9}), "0:0.1250 1:0.5000 2:0.2500 3:0.1250");
}

TEST(min_p_is_a_part_of_the_largest) {
    CHECK_TEXT(choices_of((Sampler){OPEN, .min_p = 0.2}), "0:0.1250 1:0.5000 2:0.2500 3:0.1250");
    CHECK_TEXT(choices_of((Sampler){OPEN, .min_p = 0.3}), "1:0.6667 2:0.3333");
    CHECK_TEXT(choices_of((Sampler){OPEN, .min_p = 1}), "1:1.0000");
}

// The entropy is 1.75 bits; surprises 3, 1, 2, 3 are 1.25, 0.75, 0.25, 1.25 from it: 2, 1, 0, 3.
TEST(typical_keeps_what_is_nearest_to_the_entropy) {
    CHECK_TEXT(choices_of((Sampler){OPEN, .typical_p = 0.2}), "2:1.0000");
    CHECK_TEXT(choices_of((Sampler){OPEN, .typical_p = 0.3}), "1:0.6667 2:0.3333");
    CHECK_TEXT(choices_of((Sampler){OPEN, .typical_p = 0.8}), "0:0.1429 1:0.5714 2:0.2857");
}

// Top-k 3 leaves 1/7, 4/7, 2/7; typical 0.6: surprises 2.81, 0.81, 1.81 bits, entropy 1.38, so 2
// and 1 with 6/7; top-p 0.6 of 2/3, 1/3 leaves 1. Without typical it would leave 1 and 2.
TEST(each_cut_works_on_what_the_one_before_left) {
    CHECK_TEXT(choices_of((Sampler){OPEN, .top_k = 3, .typical_p = 0.6, .top_p = 0.6}), "1:1.0000");
    CHECK_TEXT(choices_of((Sampler){OPEN, .top_k = 3, .top_p = 0.6}), "1:0.6667 2:0.3333");
}

// At temperature 4 the largest has 0.33; were it applied first, top-p 0.5 would keep two.
TEST(temperature_comes_after_the_cuts) {
    CHECK_TEXT(choices_of((Sampler){OPEN, .top_p = 0.5, .temperature = 4}), "1:1.0000");
    CHECK_TEXT(choices_of((Sampler){OPEN, .top_k = 2, .temperature = 0.5}), "1:0.8000 2:0.2000");
}

// Twice a logarithm is the square of the chance, half of it the root.
TEST(repeat_penalty_multiplies_negative_logits_once) {
    static const int32_t history[] = {1, 1, -1, 99};
    CHECK_TEXT(choices_after((Sampler){OPEN, .repeat_penalty = 2}, chance, FEW, history, 4),
               "0:0.1667 1:0.3333 2:0.3333 3:0.1667");
    static const double large[] = {16, 4};  // positive logits: the root of 16
    static const int32_t zero[] = {0};
    CHECK_TEXT(choices_after((Sampler){OPEN, .repeat_penalty = 2}, large, 2, zero, 1),
               "0:0.5000 1:0.5000");
}

// ln 2 halves: 1/2 twice, 1/4 once, and all are 1/8.
TEST(frequency_penalty_counts) {
    static const int32_t history[] = {1, 2, 1};
    CHECK_TEXT(choices_after((Sampler){OPEN, .frequency_penalty = log(2)}, chance, FEW, history, 3),
               "0:0.2500 1:0.2500 2:0.2500 3:0.2500");
}

TEST(presence_penalty_does_not_count) {
    static const int32_t history[] = {1, 2, 1};
    CHECK_TEXT(choices_after((Sampler){OPEN, .presence_penalty = log(2)}, chance, FEW, history, 3),
               "0:0.2000 1:0.4000 2:0.2000 3:0.2000");
}

TEST(penalties_look_back_at_the_last) {
    static const int32_t history[] = {1, 1, 2};
    Sampler sampler = {OPEN, .frequency_penalty = log(2), .repeat_last = 1};
    CHECK_TEXT(choices_after(sampler, chance, FEW, history, 3),
               "0:0.1429 1:0.5714 2:0.1429 3:0.1429");
    sampler.repeat_last = 0;
    CHECK_TEXT(choices_after(sampler, chance, FEW, history, 3),
               "0:0.1250 1:0.5000 2:0.2500 3:0.1250");
}

TEST(bias_is_added_before_penalties) {
    static const LogitBias bias[] = {{1, -INFINITY}, {0, 0.6931472f}};
    Sampler sampler = {OPEN, .bias = bias, .biases = 2};
    CHECK_TEXT(choices_of(sampler), "0:0.4000 1:0.0000 2:0.4000 3:0.2000");
    sampler.temperature = 0;
    CHECK_TEXT(choices_of(sampler), "0:1.0000");
    static const int32_t history[] = {0};  // (1/8 * 2)^2 of 1/16 + 1/4 + 1/8
    sampler = (Sampler){OPEN, .bias = bias, .biases = 2, .repeat_penalty = 2};
    CHECK_TEXT(choices_after(sampler, chance, FEW, history, 1),
               "0:0.1429 1:0.0000 2:0.5714 3:0.2857");
}

// Tau 1: 2 bits at first, which 1/8 has more of. 1/2 and 1/4 become 2/3 and 1/3; drawing the first
// is 0.585 bits of surprise, the second 1.585: 0.415 too little, 0.585 too much.
TEST(mirostat_cuts_what_surprises_more_and_corrects_itself) {
    Sampler sampler = {OPEN, .mirostat = 2, .mirostat_tau = 1.001, .mirostat_eta = 0.5, .top_k = 1};
    CHECK_TEXT(choices_of(sampler), "1:0.6667 2:0.3333");
    float logits[FEW];
    logits_of(chance, FEW, logits);
    int32_t id = sampler_next(&sampler, logits, FEW, NULL, 0);
    double surprise = id == 1 ? log2(1.5) : log2(3);
    CHECK(id == 1 || id == 2);
    CHECK_NEAR(sampler.correction, 0.5 * (surprise - 1.001), 1e-6);
    sampler_free(&sampler);
    sampler = (Sampler){OPEN, .mirostat = 2, .mirostat_tau = 1, .correction = 5};
    CHECK_TEXT(choices_of(sampler), "1:1.0000");  // less than none is allowed: the likeliest
}

// Mirostat's purpose: over many draws the mean surprise is tau. 64 tokens, chances 1 / rank.
TEST(mirostat_keeps_the_surprise) {
    enum { TOKENS = 64, DRAWS = 4000 };
    Sampler sampler = {OPEN, .mirostat = 2, .mirostat_tau = 3, .mirostat_eta = 0.1, .state = 1};
    double sum = 0, part[TOKENS];
    for (int i = 0; i < TOKENS; i++) part[i] = 1.0 / (i + 1);
    for (int i = 0; i < DRAWS; i++) {
        float logits[TOKENS];
        double before = sampler.correction;
        logits_of(part, TOKENS, logits);
        sampler_next(&sampler, logits, TOKENS, NULL, 0);
        sum += (sampler.correction - before) / sampler.mirostat_eta;
    }
    CHECK_NEAR(sum / DRAWS, 0, 0.05);
    sampler_free(&sampler);
}

// 20,000 draws; a count of chance p lies within 4 sqrt(n p (1 - p)) but once in 16,000.
TEST(draws_come_as_often_as_their_chance) {
    enum { DRAWS = 20000 };
    Sampler sampler = {OPEN, .state = 42};
    int counts[FEW] = {0};
    for (int i = 0; i < DRAWS; i++) {
        float logits[FEW];
        logits_of(chance, FEW, logits);
        counts[sampler_next(&sampler, logits, FEW, NULL, 0)]++;
    }
    sampler_free(&sampler);
    for (int i = 0; i < FEW; i++)
        CHECK_NEAR(counts[i], DRAWS * chance[i], 4 * sqrt(DRAWS * chance[i] * (1 - chance[i])));
}

// Logits that need no exp of the machine's; the whole chain over more tokens than are sorted at
// first. A second implementation, in Python with its libm, gave the same numbers.
static void draw_many(Sampler sampler, int32_t *ids, int count) {
    enum { TOKENS = 5000 };
    static float logits[TOKENS];
    for (int i = 0; i < count; i++) {
        for (int j = 0; j < TOKENS; j++) logits[j] = (float)((j * 7919 + i * 31) % TOKENS) * 0.002f;
        ids[i] = sampler_next(&sampler, logits, TOKENS, ids, i);
    }
    sampler_free(&sampler);
}

static void check_draws(Sampler sampler, const int32_t *wanted) {
    enum { DRAWS = 6 };
    int32_t ids[DRAWS];
    draw_many(sampler, ids, DRAWS);
    for (int i = 0; i < DRAWS; i++) CHECK_INT(ids[i], wanted[i]);
}

TEST(a_seed_draws_the_same_everywhere) {
    check_draws((Sampler){OPEN, .state = 7}, (int32_t[]){1956, 99, 4510, 2917, 2252, 1252});
    Sampler cut = {OPEN, .state = 7, .typical_p = 0.9, .top_p = 0.9, .min_p = 0.01};
    cut.temperature = 1.3, cut.repeat_penalty = 1.1;
    check_draws(cut, (int32_t[]){1956, 94, 4510, 2917, 2254, 1252});
    Sampler mirostat = {OPEN, .state = 7, .mirostat = 2, .mirostat_tau = 5, .mirostat_eta = 0.1};
    check_draws(mirostat, (int32_t[]){1963, 113, 4570, 2977, 2261, 1360});
}

TEST(every_token_forbidden_still_draws_one) {
    static const LogitBias bias[] = {{0, -INFINITY}, {1, -INFINITY}};
    float logits[2] = {0, 0};
    Sampler sampler = {OPEN,         .bias = bias,     .biases = 2,      .top_p = 0.5,
                       .min_p = 0.1, .typical_p = 0.5, .mirostat_tau = 1};
    int32_t id = sampler_next(&sampler, logits, 2, NULL, 0);
    CHECK(id == 0 || id == 1);
    sampler_free(&sampler);
}

TEST(values_out_of_range_are_refused) {
    Sampler right = {SAMPLER_DEFAULTS};
    CHECK_INT(sampler_check(&right, 10), 0);
    Sampler wrong = right;
    wrong.mirostat = 1;
    CHECK_FAIL(sampler_check(&wrong, 10), "mirostat 1");
    wrong = right, wrong.top_p = NAN;
    CHECK_FAIL(sampler_check(&wrong, 10), "top_p nan");
    wrong = right, wrong.repeat_penalty = 0;
    CHECK_FAIL(sampler_check(&wrong, 10), "repeat 0");
    wrong = right, wrong.mirostat_eta = 2;
    CHECK_FAIL(sampler_check(&wrong, 10), "eta 2");
    wrong = right, wrong.bias = &(LogitBias){10, 1}, wrong.biases = 1;
    CHECK_FAIL(sampler_check(&wrong, 10), "bias of token 10, but the vocabulary has 10");
}
