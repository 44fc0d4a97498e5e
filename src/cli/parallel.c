/* parallel.c - several prompts continued together, a token of each in one step.
 * In: prompts, one a line.  Out: each prompt with its continuation, in order.
 * Invariants: prompts of a group end at the same position; weights are read once for all of them.
 * Sequence i draws with the seed plus i, so that its text does not depend on its neighbours.
 *   generate --parallel 2, "Once upon\nThe sky"   =>   [1] Once upon / text / [2] The sky / text */
#include "cli/cli.h"
#include "engine/engine.h"

#include <string.h>

typedef struct {
    IdList history;  // the prompt, then what was generated
    int32_t prompts;
    Sampler sampler;
    bool done;
} Sequence;

typedef struct {
    const Parallel *how;
    Arena *arena;
    Llama *llama;
    int64_t sequences, first;  // first: the line of sequence 0
    Sequence *sequence;
    float *logits;  // (sequences, vocabulary)
    int32_t *ids;
    double *interval;
    double prompt_seconds, decode_seconds;  // of all groups so far, compiling left out
    int64_t decoded;                        // tokens that the latter was for
} Group;

void parallel_lines(Parallel *parallel, Arena *arena, TextSpan text) {
    int64_t most = 1;
    for (size_t i = 0; i < text.length; i++) most += text.at[i] == '\n';
    parallel->line = arena_array(arena, TextSpan, most);
    for (size_t at = 0; at < text.length;) {
        const char *end = memchr(text.at + at, '\n', text.length - at);
        size_t length = end ? (size_t)(end - text.at) - at : text.length - at;
        if (length) parallel->line[parallel->lines++] = (TextSpan){text.at + at, length};
        at += length + 1;
    }
}

static bool is_used(const Group *group, int64_t i) { return group->first + i < group->how->lines; }

// Places in the last group that no line is left for repeat its first.
static int open_sequences(Group *group) {
    for (int64_t i = 0; i < group->sequences; i++) {
        Sequence *sequence = &group->sequence[i];
        TextSpan line = group->how->line[group->first + (is_used(group, i) ? i : 0)];
        *sequence = (Sequence){.sampler = *group->how->sampler, .done = !is_used(group, i)};
        sequence->sampler.state += (uint64_t)(group->first + i);
        if (session_encode(group->how->session, group->arena, line.at, line.length, true,
                           &sequence->history) < 0)
            return -1;
        sequence->prompts = sequence->history.count;
        if (!sequence->prompts)
            return fail("line %lld makes no token", (long long)(group->first + i + 1));
    }
    return 0;
}

static int read_prompts(Group *group, int64_t longest) {
    int64_t *padding = arena_array(group->arena, int64_t, group->sequences);
    int32_t *ids = arena_array(group->arena, int32_t, group->sequences * longest);
    for (int64_t i = 0; i < group->sequences; i++) {
        const IdList *history = &group->sequence[i].history;
        padding[i] = longest - history->count;
        memcpy(ids + i * longest + padding[i], history->at,
               (size_t)history->count * sizeof *history->at);
    }
    llama_begin(group->llama, padding);
    return llama_forward(group->llama, ids, longest, group->logits, NULL);
}

// One token of each; *left: sequences that go on.
static void choose(Group *group, int64_t *left) {
    int64_t vocabulary = llama_config(group->llama)->vocabulary;
    *left = 0;
    for (int64_t i = 0; i < group->sequences; i++) {
        Sequence *sequence = &group->sequence[i];
        group->ids[i] = 0;
        if (sequence->done) continue;
        IdList *history = &sequence->history;
        int32_t id = sampler_next(&sequence->sampler, group->logits + i * vocabulary, vocabulary,
                                  history->at, history->count);
        sequence->done = session_is_end(group->how->session, id);
        if (sequence->done) continue;
        *list_add(group->arena, history) = group->ids[i] = id;
        ++*left;
    }
}

static int generate_group(Group *group, Metrics *metrics) {
    int64_t longest = 0, wanted = group->how->count, left;
    if (open_sequences(group) < 0) return -1;
    for (int64_t i = 0; i < group->sequences; i++)
        longest = max_i64(longest, group->sequence[i].prompts);
    int64_t room = llama_config(group->llama)->context - longest;
    if (wanted < 0 || wanted > room) wanted = room;
    double start = clock_seconds(), compiled = engine_compile_seconds();
    hint("reading %lld prompts ...", (long long)group->sequences);
    if (read_prompts(group, longest) < 0) return -1;
    double read = clock_seconds(), last = read;
    metrics->ttft_ms += 1e3 * (read - start);
    group->prompt_seconds += read - start - (engine_compile_seconds() - compiled);
    for (int64_t i = 0; i < group->sequences; i++)
        if (is_used(group, i)) metrics->prompt_tokens += group->sequence[i].prompts;
    for (int64_t step = 0; step < wanted && !interrupted(); step++) {
        choose(group, &left);
        metrics->generated_tokens += left;
        if (!left || step == wanted - 1) break;
        hint("%lld tokens of each ...", (long long)step + 1);
        compiled = engine_compile_seconds();
        if (llama_forward(group->llama, group->ids, 1, group->logits, NULL) < 0) return -1;
        double now = clock_seconds();
        double seconds = now - last - (engine_compile_seconds() - compiled);
        group->interval[metrics->steps++] = seconds;
        group->decoded += left;
        group->decode_seconds += seconds;
        last = now;
    }
    return 0;
}

static void print_ids(const Sequence *sequence) {
    for (int32_t i = sequence->prompts; i < sequence->history.count; i++)
        printf(i > sequence->prompts ? " %d" : "%d", sequence->history.at[i]);
    putchar('\n');
}

static void print_text(const Group *group, int64_t i) {
    const Sequence *sequence = &group->sequence[i];
    const Tokenizer *tokenizer = group->how->session->tokenizer;
    TextSpan line = group->how->line[group->first + i];
    Text text = text_new(group->arena);
    Utf8Stream stream = {0};
    for (int32_t j = sequence->prompts; j < sequence->history.count; j++) {
        int32_t id = sequence->history.at[j];
        TextSpan piece = generation_piece(tokenizer, id);
        if (tokenizer && tokenizer_is_control(tokenizer, id)) continue;
        utf8_push(&stream, piece.at, piece.length, &text);
    }
    utf8_finish(&stream, &text);
    printf("[%lld] %.*s\n%s\n", (long long)(group->first + i + 1), (int)line.length, line.at,
           text.at);
}

static void print_group(const Group *group) {
    hint_clear();
    for (int64_t i = 0; i < group->sequences && is_used(group, i); i++) {
        if (group->how->ids)
            print_ids(&group->sequence[i]);
        else
            print_text(group, i);
    }
    fflush(stdout);
}

static void finish(const Group *group, Metrics *metrics) {
    const Session *session = group->how->session;
    double decode = group->decode_seconds;
    metrics->load_ms = 1e3 * session->load_seconds;
    metrics->compile_ms = 1e3 * engine_compile_seconds();
    metrics->prompt_tok_s = per_second((double)metrics->prompt_tokens, group->prompt_seconds);
    metrics->total_tok_s = per_second((double)group->decoded, decode);
    metrics->decode_tok_s = per_second((double)metrics->steps, decode);
    metrics->weights_bytes = llama_weight_bytes(session->llama);
    metrics->kv_bytes = llama_cache_bytes(session->llama);
    metrics_intervals(metrics, group->interval, metrics->steps);
}

int parallel_run(const Parallel *parallel) {
    Llama *llama = parallel->session->llama;
    const LlamaConfig *config = llama_config(llama);
    Arena *arena = arena_new();
    int64_t sequences = config->sequences;
    int64_t groups = (parallel->lines + sequences - 1) / sequences;
    Group group = {.how = parallel, .arena = arena, .llama = llama, .sequences = sequences};
    group.sequence = arena_array(arena, Sequence, sequences);
    group.logits = arena_array(arena, float, sequences * config->vocabulary);
    group.ids = arena_array(arena, int32_t, sequences);
    group.interval = arena_array(arena, double, groups * config->context);
    Metrics metrics = {0};
    Energy energy;
    energy_start(&energy, NULL);
    int status = 0;
    for (; group.first < parallel->lines && status == 0 && !interrupted();
         group.first += sequences) {
        status = generate_group(&group, &metrics);
        if (status == 0) print_group(&group);
        for (int64_t i = 0; i < sequences; i++) sampler_free(&group.sequence[i].sampler);
        energy_note(&energy);
    }
    hint_clear();
    metrics.energy_j = energy_joules(&energy);
    finish(&group, &metrics);
    if (status == 0) {
        print_speed(&metrics);
        say("%lld at once: %.1f tokens/s together", (long long)sequences, metrics.total_tok_s);
        if (common.metrics) status = metrics_write(common.metrics, &metrics);
    }
    arena_free(arena);
    return status;
}
