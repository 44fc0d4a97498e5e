/* sampling.c - the options of a sampler, once the model is known.
 * In: what the command line said.  Out: a sampler with its seed and biases.
 * Invariant: a bias is of a token that the model has.
 *   --logit-bias 198-inf --ignore-eos   =>   bias {198, -infinity}, {each end token, -infinity}  */
#include "cli/cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef LIST(LogitBias) BiasList;

// "198+1.5", "198-inf"; strtod would take hexadecimal and NaN as well.
static bool read_bias(const char *text, LogitBias *bias) {
    char *end;
    size_t digits = strspn(text, "0123456789");
    const char *sign = text + digits;
    if (digits < 1 || digits > 9 || (*sign != '+' && *sign != '-')) return false;
    bias->id = (int32_t)strtol(text, NULL, 10);
    bias->add = -INFINITY;
    if (!strcmp(sign, "-inf")) return true;
    if (sign[1 + strspn(sign + 1, "0123456789.")]) return false;
    bias->add = strtof(sign, &end);
    return end > sign && !*end && isfinite(bias->add);
}

static int add_biases(const Sampling *sampling, Arena *arena, BiasList *list) {
    for (int i = 0; i < sampling->biases.count; i++) {
        LogitBias bias;
        if (!read_bias(sampling->biases.at[i], &bias))
            return usage_wrong("--logit-bias %.60s: give a token's id and what to add, as in "
                               "198+1.5, 198-1.5 or 198-inf",
                               sampling->biases.at[i]);
        *list_add(arena, list) = bias;
    }
    return EXIT_DONE;
}

int sampling_open(Sampling *sampling, Arena *arena, const Session *session) {
    int64_t vocabulary = llama_config(session->llama)->vocabulary;
    BiasList list = {0};
    int status = add_biases(sampling, arena, &list);
    if (status != EXIT_DONE) return status;
    for (int32_t id = 0; id < vocabulary && sampling->ignore_end; id++)
        if (session_is_end(session, id)) *list_add(arena, &list) = (LogitBias){id, -INFINITY};
    Sampler *sampler = &sampling->sampler;
    sampler->bias = list.at;
    sampler->biases = list.count;
    sampler->state = sampling->seed < 0 ? (uint64_t)time(NULL) ^ (uint64_t)getpid() << 32
                                        : (uint64_t)sampling->seed;
    return sampler_check(sampler, vocabulary) < 0 ? usage_wrong("%s", error_text()) : EXIT_DONE;
}

void sampling_close(Sampling *sampling) { sampler_free(&sampling->sampler); }
