/* sampler.c - which token comes next.
 * In: logits.  Out: a token id.
 * Invariant: the order is repeat penalty, then temperature 0 is the largest logit (the first of
 * equals); else top-k,
 * top-p, min-p on the probabilities at that temperature, then a draw; a seed gives the same tokens
 * on every machine.
 *   sampler_next(sampler, logits, vocabulary, history, count)   =>   42 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/models.h"

typedef struct {
    int32_t id;
    float logit;
} Candidate;

// splitmix64 (S. Vigna): the draws of a seed.
static double draw(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

// Tokens among the last `repeat_last` become less likely: positive logits are divided, negative
// ones multiplied.
static void penalize(const Sampler *sampler, float *logits, int64_t vocabulary,
                     const int32_t *history, int64_t count) {
    if (sampler->repeat_penalty == 1) return;
    int64_t first = max_i64(0, count - sampler->repeat_last);
    for (int64_t i = first; i < count; i++) {
        bool seen = history[i] < 0 || history[i] >= vocabulary;
        for (int64_t j = first; j < i && !seen; j++) seen = history[j] == history[i];
        if (seen) continue;
        float *logit = &logits[history[i]];
        *logit = (float)(*logit > 0 ? *logit / sampler->repeat_penalty
                                    : *logit * sampler->repeat_penalty);
    }
}

static int32_t largest(const float *logits, int64_t vocabulary) {
    int64_t best = 0;
    for (int64_t i = 1; i < vocabulary; i++)
        if (logits[i] > logits[best]) best = i;
    return (int32_t)best;
}

static int by_logit(const void *a, const void *b) {
    const Candidate *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

int32_t sampler_next(Sampler *sampler, float *logits, int64_t vocabulary, const int32_t *history,
                     int64_t count) {
    penalize(sampler, logits, vocabulary, history, count);
    if (sampler->temperature <= 0) return largest(logits, vocabulary);
    Candidate *candidate = malloc(sizeof *candidate * (size_t)vocabulary);
    double *chance = malloc(sizeof *chance * (size_t)vocabulary);
    if (!candidate || !chance)
        fatal("sampler: no memory for %lld candidates", (long long)vocabulary);
    for (int64_t i = 0; i < vocabulary; i++) candidate[i] = (Candidate){(int32_t)i, logits[i]};
    qsort(candidate, (size_t)vocabulary, sizeof *candidate, by_logit);
    int64_t kept = sampler->top_k > 0 ? min_i64(sampler->top_k, vocabulary) : vocabulary;
    double sum = 0;
    for (int64_t i = 0; i < kept; i++)
        sum += chance[i] =
            exp(((double)candidate[i].logit - (double)candidate[0].logit) / sampler->temperature);
    double left = 0;
    int64_t last = 0;  // candidates that stay: enough for top_p, none below min_p of the best
    while (last < kept && (last == 0 || (left < sampler->top_p * sum &&
                                         chance[last] >= sampler->min_p * chance[0])))
        left += chance[last++];
    double at = draw(&sampler->state) * left;
    int64_t chosen = 0;
    while (chosen < last - 1 && at >= chance[chosen]) at -= chance[chosen++];
    int32_t id = candidate[chosen].id;
    free(candidate);
    free(chance);
    return id;
}
