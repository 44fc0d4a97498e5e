/* sampler.c - which token comes next.
 * In: logits.  Out: a token id.
 * Invariant: a draw depends on the logits, the history, the options and the seed alone.
 *   Sampler sampler = {SAMPLER_DEFAULTS, .state = seed};
 *   sampler_next(&sampler, logits, vocabulary, history, count)   =>   42
 *
 * The order is llama.cpp's, so that its options mean the same here:
 *   logit bias, penalties, top-k, typical, top-p, min-p, temperature, draw
 *   logit bias, penalties, temperature, mirostat 2, draw          where mirostat is asked for
 * Bias comes first so that a penalty acts on what the user made of a logit. Top-k is the cheapest
 * cut and leaves little to the others. Temperature comes last: which tokens are sensible does not
 * change with how boldly one chooses among them. Temperature 0 is the largest logit after bias and
 * penalties, the first of equals.
 *
 * Every machine draws the same: nothing but +, -, *, / of doubles in a fixed order, which IEEE 754
 * specifies to the bit (the build forbids fused products), exp and log made of these, and equals
 * ordered by id. Logits of two devices may differ in their last bits; so what is left after the
 * cuts is drawn from in the order of ids, where another bit of a chance moves a border by as much,
 * and not by rank, where two tokens would change places.
 *
 * Sources: A. Holtzman and others, The Curious Case of Neural Text Degeneration (2020): top-p;
 * C. Meister and others, Locally Typical Sampling (2023); S. Basu and others, Mirostat (2021);
 * N. Keskar and others, CTRL (2019): repeat penalty. Min-p and the chain: ggml-org/llama.cpp. */
#include "models/models.h"

#include <string.h>

struct SamplerRoom {
    Arena *arena;
    int64_t vocabulary;
    SamplerChoice *choice;
    int32_t *seen;  // by id: how often among the last tokens; all 0 between calls
};

// What may still be drawn. Chances sum to 1 after weigh() and after each cut.
typedef struct {
    SamplerChoice *at;
    int64_t count;
    bool by_id;  // whether they are in the order of ids
} Choices;

// ---- exp and log that every machine computes alike ---------------------------------------------
static const double ln2 = 0x1.62e42fefa39efp-1;

static double power_of_two(int64_t exponent) {
    uint64_t bits = (uint64_t)(exponent + 1023) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

// Of x <= 0: 2^k e^r with |r| <= ln(2)/2, Taylor's series of e^r to where it ends in doubles.
// 0 below -650, so that a part of what is above is a normal number still, and for NaN.
static double exp_of(double x) {
    static const double high = 0x1.62e42feep-1, low = 0x1.a39ef35793c76p-33;  // ln(2), in two
    static const double inverse_factorial[] = {1.0 / 6227020800,
                                               1.0 / 479001600,
                                               1.0 / 39916800,
                                               1.0 / 3628800,
                                               1.0 / 362880,
                                               1.0 / 40320,
                                               1.0 / 5040,
                                               1.0 / 720,
                                               1.0 / 120,
                                               1.0 / 24,
                                               1.0 / 6,
                                               0.5,
                                               1,
                                               1};
    if (!(x > -650)) return 0;
    int64_t k = (int64_t)(x / ln2 - 0.5);
    double r = x - (double)k * high - (double)k * low, sum = 0;
    for (int i = 0; i < COUNT_OF(inverse_factorial); i++) sum = sum * r + inverse_factorial[i];
    return sum * power_of_two(k);
}

// Of a normal x > 0: x = 2^k m with m in [0.7, 1.42), log m = 2 atanh((m - 1) / (m + 1)).
static double log_of(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int64_t k = (int64_t)(bits >> 52) - 1023;
    double m = x / power_of_two(k);
    if (m > 1.42) m /= 2, k++;
    double t = (m - 1) / (m + 1), sum = 0;
    for (int i = 23; i > 0; i -= 2) sum = sum * t * t + 1.0 / i;
    return (double)k * ln2 + 2 * t * sum;
}

// ---- logits ------------------------------------------------------------------------------------
static void add_bias(const Sampler *sampler, float *logits, int64_t vocabulary) {
    for (int64_t i = 0; i < sampler->biases; i++) {
        const LogitBias *bias = &sampler->bias[i];
        if (bias->id >= 0 && bias->id < vocabulary) logits[bias->id] += bias->add;
    }
}

// Of a token that was seen `times`: positive logits are divided, negative ones multiplied.
static float penalized(const Sampler *sampler, float logit, int32_t times) {
    double repeated = logit > 0 ? (double)logit / sampler->repeat_penalty
                                : (double)logit * sampler->repeat_penalty;
    return (float)(repeated - sampler->frequency_penalty * times - sampler->presence_penalty);
}

static void penalize(const Sampler *sampler, float *logits, int64_t vocabulary,
                     const int32_t *history, int64_t count) {
    if (sampler->repeat_penalty == 1 && sampler->frequency_penalty == 0 &&
        sampler->presence_penalty == 0)
        return;
    int32_t *seen = sampler->room->seen;
    int64_t first = sampler->repeat_last < 0 ? 0 : max_i64(0, count - sampler->repeat_last);
    for (int64_t i = first; i < count; i++)
        if (history[i] >= 0 && history[i] < vocabulary) seen[history[i]]++;
    for (int64_t i = first; i < count; i++) {
        int32_t id = history[i];
        if (id < 0 || id >= vocabulary || !seen[id]) continue;
        logits[id] = penalized(sampler, logits[id], seen[id]);
        seen[id] = 0;
    }
}

static int64_t largest(const float *logits, int64_t vocabulary) {
    int64_t best = 0;
    for (int64_t i = 1; i < vocabulary; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

// ---- sorting -----------------------------------------------------------------------------------
// The higher score, of equals the lower id.
static bool before(const SamplerChoice *a, const SamplerChoice *b) {
    return a->score > b->score || (a->score == b->score && a->id < b->id);
}

static void swap(SamplerChoice *a, SamplerChoice *b) {
    SamplerChoice other = *a;
    *a = *b;
    *b = other;
}

// Moves the choice at `at` down until neither of those below it, 2 at + 1 and 2 at + 2, comes later
// in the order.
static void sift_down(SamplerChoice *heap, int64_t count, int64_t at) {
    for (int64_t below; (below = 2 * at + 1) < count; at = below) {
        if (below + 1 < count && before(&heap[below], &heap[below + 1])) below++;
        if (!before(&heap[at], &heap[below])) return;
        swap(&heap[at], &heap[below]);
    }
}

static void heap_make(SamplerChoice *heap, int64_t count) {
    for (int64_t i = count / 2 - 1; i >= 0; i--) sift_down(heap, count, i);
}

// The `first` that come first in the order, sorted, in front of the rest: a heap with the last of
// them on top, where an earlier one takes its place.
static void sort_first(Choices *set, int64_t first) {
    SamplerChoice *heap = set->at;
    heap_make(heap, first);
    for (int64_t i = first; i < set->count; i++) {
        if (!before(&heap[i], heap)) continue;
        swap(&heap[i], heap);
        sift_down(heap, first, 0);
    }
    for (int64_t left = first - 1; left > 0; left--) {
        swap(&heap[left], heap);
        sift_down(heap, left, 0);
    }
    set->by_id = false;
}

static void sort_by_id(Choices *set) {
    if (set->by_id) return;
    for (int64_t i = 0; i < set->count; i++) set->at[i].score = -set->at[i].id;
    sort_first(set, set->count);
    set->by_id = true;
}

// ---- cuts --------------------------------------------------------------------------------------
// All, or the top_k likeliest. The latter straight from the logits, since most never get in.
static Choices choose_top_k(const Sampler *sampler, const float *logits, int64_t vocabulary) {
    Choices set = {sampler->room->choice, vocabulary, true};
    if (sampler->top_k > 0 && !sampler->mirostat) set.count = min_i64(sampler->top_k, vocabulary);
    for (int64_t i = 0; i < set.count; i++)
        set.at[i] = (SamplerChoice){.id = (int32_t)i, .logit = logits[i], .score = logits[i]};
    if (set.count == vocabulary) return set;
    set.by_id = false;
    heap_make(set.at, set.count);
    for (int64_t i = set.count; i < vocabulary; i++) {
        if (!(logits[i] > set.at[0].logit)) continue;
        set.at[0] = (SamplerChoice){.id = (int32_t)i, .logit = logits[i], .score = logits[i]};
        sift_down(set.at, set.count, 0);
    }
    return set;
}

static void rescale(Choices *set) {
    double sum = 0;
    for (int64_t i = 0; i < set->count; i++) sum += set->at[i].chance;
    for (int64_t i = 0; i < set->count && sum > 0; i++) set->at[i].chance /= sum;
}

// Softmax at a temperature. Where every logit is -infinity all chances are 0.
static void weigh(Choices *set, double temperature) {
    float best = set->at[0].logit;
    for (int64_t i = 1; i < set->count; i++)
        if (set->at[i].logit > best) best = set->at[i].logit;
    for (int64_t i = 0; i < set->count; i++)
        set->at[i].chance = exp_of(((double)set->at[i].logit - best) / temperature);
    rescale(set);
}

// Leaves the first in the order of scores that together have `chance`. Few are enough, mostly, so
// few are sorted before more are.
static void keep_first(Choices *set, double chance) {
    enum { FEW = 256, MORE = 8 };
    double sum = 0;
    int64_t kept = 0;
    for (int64_t sorted = FEW; kept < set->count && (kept == 0 || sum < chance); sorted *= MORE) {
        int64_t end = min_i64(sorted, set->count);
        sort_first(set, end);
        for (sum = 0, kept = 0; kept < end && (kept == 0 || sum < chance); kept++)
            sum += set->at[kept].chance;
    }
    set->count = kept;
    rescale(set);
}

// Leaves those with at least this chance, and the likeliest whatever its chance.
static void keep_likelier(Choices *set, double chance) {
    double best = 0;
    int64_t kept = 0;
    for (int64_t i = 0; i < set->count; i++)
        if (set->at[i].chance > best) best = set->at[i].chance;
    if (chance > best) chance = best;
    for (int64_t i = 0; i < set->count; i++)
        if (set->at[i].chance >= chance) set->at[kept++] = set->at[i];
    set->count = kept;
    rescale(set);
}

// Those whose surprise, -log p, is nearest to its mean, the entropy.
static void cut_typical(Choices *set, double chance) {
    if (chance >= 1) return;
    double entropy = 0;
    for (int64_t i = 0; i < set->count; i++) {
        SamplerChoice *at = &set->at[i];
        at->score = at->chance > 0 ? -log_of(at->chance) : 700;  // its surprise
        entropy += at->chance * at->score;
    }
    for (int64_t i = 0; i < set->count; i++) {
        double far = set->at[i].score - entropy;
        set->at[i].score = far < 0 ? far : -far;
    }
    keep_first(set, chance);
}

static void cut_top_p(Choices *set, double chance) {
    if (chance >= 1) return;
    for (int64_t i = 0; i < set->count; i++) set->at[i].score = set->at[i].logit;
    keep_first(set, chance);
}

static void cut_min_p(Choices *set, double part) {
    if (part <= 0) return;
    double best = 0;
    for (int64_t i = 0; i < set->count; i++)
        if (set->at[i].chance > best) best = set->at[i].chance;
    keep_likelier(set, part * best);
}

// Tokens of more surprise than mirostat allows by now, 2 tau bits at first.
static void cut_mirostat(const Sampler *sampler, Choices *set) {
    double bits = 2 * sampler->mirostat_tau - sampler->correction;
    keep_likelier(set, bits > 0 ? exp_of(-bits * ln2) : 1);
}

// ---- the chain ---------------------------------------------------------------------------------
static void make_room(Sampler *sampler, int64_t vocabulary) {
    if (sampler->room && sampler->room->vocabulary >= vocabulary) return;
    sampler_free(sampler);
    Arena *arena = arena_new();
    sampler->room = arena_object(arena, SamplerRoom);
    *sampler->room = (SamplerRoom){arena, vocabulary, arena_array(arena, SamplerChoice, vocabulary),
                                   arena_array(arena, int32_t, vocabulary)};
}

void sampler_free(Sampler *sampler) {
    if (sampler->room) arena_free(sampler->room->arena);
    sampler->room = NULL;
}

static Choices choose(Sampler *sampler, float *logits, int64_t vocabulary, const int32_t *history,
                      int64_t count) {
    make_room(sampler, vocabulary);
    add_bias(sampler, logits, vocabulary);
    penalize(sampler, logits, vocabulary, history, count);
    if (sampler->temperature <= 0) {
        int64_t best = largest(logits, vocabulary);
        sampler->room->choice[0] = (SamplerChoice){(int32_t)best, logits[best], 1, 0};
        return (Choices){sampler->room->choice, 1, true};
    }
    Choices set = choose_top_k(sampler, logits, vocabulary);
    if (!sampler->mirostat) {
        weigh(&set, 1);
        cut_typical(&set, sampler->typical_p);
        cut_top_p(&set, sampler->top_p);
        cut_min_p(&set, sampler->min_p);
    }
    weigh(&set, sampler->temperature);
    if (sampler->mirostat) cut_mirostat(sampler, &set);
    sort_by_id(&set);
    return set;
}

const SamplerChoice *sampler_choices(Sampler *sampler, float *logits, int64_t vocabulary,
                                     const int32_t *history, int64_t count, int64_t *choices) {
    Choices set = choose(sampler, logits, vocabulary, history, count);
    *choices = set.count;
    return set.at;
}

// splitmix64 (S. Vigna): the draws of a seed, in [0, 1).
static double draw(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

int32_t sampler_next(Sampler *sampler, float *logits, int64_t vocabulary, const int32_t *history,
                     int64_t count) {
    Choices set = choose(sampler, logits, vocabulary, history, count);
    if (sampler->temperature <= 0) return set.at[0].id;
    double at = draw(&sampler->state);
    int64_t chosen = 0;
    while (chosen < set.count - 1 && at >= set.at[chosen].chance) at -= set.at[chosen++].chance;
    const SamplerChoice *choice = &set.at[chosen];
    if (sampler->mirostat && choice->chance > 0)
        sampler->correction +=
            sampler->mirostat_eta * (-log_of(choice->chance) / ln2 - sampler->mirostat_tau);
    return choice->id;
}

// ---- what a sampler may be ---------------------------------------------------------------------
static bool within(double value, double low, double high) { return value >= low && value <= high; }

int sampler_check(const Sampler *sampler, int64_t vocabulary) {
    if (sampler->mirostat != 0 && sampler->mirostat != 2)
        return fail("mirostat %lld: 0 is none, 2 is its second version; there is no other here",
                    (long long)sampler->mirostat);
    if (!within(sampler->temperature, 0, 100) || !within(sampler->top_p, 0, 1) ||
        !within(sampler->min_p, 0, 1) || !within(sampler->typical_p, 0, 1))
        return fail("sampler: temperature %g, top_p %g, min_p %g, typical_p %g; the first is 0 to "
                    "100, the others are 0 to 1",
                    sampler->temperature, sampler->top_p, sampler->min_p, sampler->typical_p);
    if (!within(sampler->repeat_penalty, 0.01, 100) ||
        !within(sampler->frequency_penalty, -100, 100) ||
        !within(sampler->presence_penalty, -100, 100))
        return fail("sampler: penalties repeat %g, frequency %g, presence %g; the first is 0.01 to "
                    "100, the others are -100 to 100",
                    sampler->repeat_penalty, sampler->frequency_penalty, sampler->presence_penalty);
    if (!within(sampler->mirostat_tau, 0, 100) || !within(sampler->mirostat_eta, 0, 1))
        return fail("sampler: mirostat tau %g, eta %g; they are 0 to 100 and 0 to 1",
                    sampler->mirostat_tau, sampler->mirostat_eta);
    for (int64_t i = 0; i < sampler->biases; i++)
        if (sampler->bias[i].id < 0 || sampler->bias[i].id >= vocabulary)
            return fail("logit bias of token %d, but the vocabulary has %lld tokens",
                        sampler->bias[i].id, (long long)vocabulary);
    return 0;
}
