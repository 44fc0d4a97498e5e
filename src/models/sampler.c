/* sampler.c - which token comes next.
 * In: logits.  Out: a token id.
 * Invariant: the order is repeat penalty, then temperature 0 is the largest logit (the first of
 * equals); else top-k, top-p, min-p on the probabilities at that temperature, then a draw; a seed
 * gives the same tokens on every machine.
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

// Moves the candidate at `at` down until neither of those below it, 2 at + 1 and 2 at + 2, comes
// later in the order.
static void sift_down(Candidate *heap, int64_t count, int64_t at) {
    for (int64_t below; (below = 2 * at + 1) < count; at = below) {
        if (below + 1 < count && by_logit(&heap[below], &heap[below + 1]) < 0) below++;
        if (by_logit(&heap[at], &heap[below]) >= 0) return;
        Candidate other = heap[at];
        heap[at] = heap[below];
        heap[below] = other;
    }
}

// The `kept` first in the order, sorted: a heap with the last of them on top, where a better one
// takes its place.
static void likeliest(const float *logits, int64_t vocabulary, Candidate *heap, int64_t kept) {
    for (int64_t i = 0; i < kept; i++) heap[i] = (Candidate){(int32_t)i, logits[i]};
    for (int64_t i = kept / 2 - 1; i >= 0; i--) sift_down(heap, kept, i);
    for (int64_t i = kept; i < vocabulary; i++) {
        if (!(logits[i] > heap[0].logit)) continue;
        heap[0] = (Candidate){(int32_t)i, logits[i]};
        sift_down(heap, kept, 0);
    }
    qsort(heap, (size_t)kept, sizeof *heap, by_logit);
}

int32_t sampler_next(Sampler *sampler, float *logits, int64_t vocabulary, const int32_t *history,
                     int64_t count) {
    penalize(sampler, logits, vocabulary, history, count);
    if (sampler->temperature <= 0) return largest(logits, vocabulary);
    int64_t kept = sampler->top_k > 0 ? min_i64(sampler->top_k, vocabulary) : vocabulary;
    Candidate *candidate = malloc(sizeof *candidate * (size_t)kept);
    double *chance = malloc(sizeof *chance * (size_t)kept);
    if (!candidate || !chance) fatal("sampler: no memory for %lld candidates", (long long)kept);
    likeliest(logits, vocabulary, candidate, kept);
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
