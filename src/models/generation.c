/* generation.c - text from a model, token by token: the loop of every command and of the library.
 * In: tokens to continue, and how.  Out: tokens, and their text as it comes.
 * Invariants: the cache holds the first llama_position tokens of history, and those behind are
 * given to the model before the next is chosen; what is shown is valid UTF-8 and never the
 * beginning of the stop text.
 *   generation_add(g, "Once upon", ...); generation_run(g, &how)   =>   " a time, there was ..."
 *
 * Prompt lookup. Where the last tokens have stood before in history, what followed them then is a
 * guess at what follows now. The model reads the guess behind the chosen token in one step, and its
 * logits say how much of it is what would have been chosen anyway. The tokens are the same, fewer
 * steps make them. Source: A. Saxena, prompt lookup decoding (2023); Y. Leviathan and others, Fast
 * Inference from Transformers via Speculative Decoding (2023).                                   */
#define _GNU_SOURCE  // memmem
#include "engine/engine.h"
#include "models/models.h"

#include <string.h>

enum {
    PIECE = 512,               // of a prompt, between two looks at whether to go on
    GUESS = GENERATION_GUESS,  // tokens at most; with the chosen one, a piece of llama's
    GUESS_LEAST = GUESS / 2,   // fewer are cheaper one by one
    MATCH_LONGEST = 3,         // tokens that must have stood before
    MATCH_LEAST = 2,
};

struct Generation {
    Llama *llama;
    const Tokenizer *tokenizer;  // NULL: tokens are letters
    Arena *arena;                // of what lasts
    IdList history;
    float *logits;  // (GUESS + 1, vocabulary): after the chosen token and each of the guess
    int32_t guess[GUESS];
    int guesses, row;  // row: of the logits that count next
    // of the run
    const GenerationHow *how;
    GenerationResult result;
    Arena *scratch;
    Text text;  // valid UTF-8
    size_t shown;
    Utf8Stream stream;
    LIST(double) interval;  // seconds between tokens
    double last;            // clock: at the last token
    bool cancelled;
};

Generation *generation_new(Llama *llama, const Tokenizer *tokenizer) {
    Arena *arena = arena_new();
    Generation *generation = arena_object(arena, Generation);
    *generation = (Generation){
        .llama = llama, .tokenizer = tokenizer, .arena = arena, .scratch = arena_new()};
    int64_t vocabulary = llama_config(llama)->vocabulary;
    generation->logits = arena_array(arena, float, (GUESS + 1) * vocabulary);
    llama_rewind(llama, 0);
    return generation;
}

void generation_free(Generation *generation) {
    if (!generation) return;
    arena_free(generation->scratch);
    arena_free(generation->arena);
}

const IdList *generation_history(const Generation *generation) { return &generation->history; }

void generation_add(Generation *generation, const int32_t *ids, int64_t count) {
    for (int64_t i = 0; i < count; i++) *list_add(generation->arena, &generation->history) = ids[i];
}

void generation_rewind(Generation *generation, int64_t count) {
    generation->history.count = (int32_t)min_i64(count, generation->history.count);
    llama_rewind(generation->llama, generation->history.count);
}

int generation_save(const Generation *generation, const char *path, TextSpan extra) {
    return llama_save(generation->llama, path, generation->history.at, extra);
}

int generation_restore(Generation *generation, const char *path, Arena *arena, TextSpan *extra) {
    IdList ids = {0};
    if (llama_restore(generation->llama, path, arena, &ids, extra) < 0) return -1;
    generation->history.count = 0;
    generation_add(generation, ids.at, ids.count);
    return 0;
}

// ---- text --------------------------------------------------------------------------------------
TextSpan generation_piece(const Tokenizer *tokenizer, int32_t id) {
    // Weights may have rows beyond the vocabulary, to fill a round number; they stand for nothing.
    if (tokenizer && id >= tokenizer_count(tokenizer)) return (TextSpan){"", 0};
    if (tokenizer) return tokenizer_piece(tokenizer, id);
    static const char letters[] = "e t a o i n s h r d l u c m w f g y p b ";
    return (TextSpan){letters + (uint32_t)id % (sizeof letters - 1), 1};
}

static void show(Generation *g, int32_t id, size_t end) {
    TextSpan text = {g->text.at + g->shown, end > g->shown ? end - g->shown : 0};
    if (end > g->shown) g->shown = end;
    if (!g->how->show || (id < 0 && !text.length)) return;
    g->cancelled |= !g->how->show(g->how->context, id, text);
}

// Where the stop text begins, else where text ends that cannot become it.
static size_t find_stop(const Generation *g, bool *found) {
    size_t stop = g->how->stop ? strlen(g->how->stop) : 0, end = g->text.count;
    size_t unseen = end - g->shown;  // what was shown holds no beginning of it
    if (!stop || !unseen) return end;
    const char *from = g->text.at + g->shown, *at = memmem(from, unseen, g->how->stop, stop);
    *found = at != NULL;
    if (at) return (size_t)(at - g->text.at);
    for (size_t held = stop < unseen ? stop : unseen; held > 0; held--)
        if (!memcmp(g->text.at + end - held, g->how->stop, held)) return end - held;
    return end;
}

static void show_token(Generation *g, int32_t id) {
    bool hidden = g->tokenizer && tokenizer_is_control(g->tokenizer, id), found = false;
    TextSpan piece = generation_piece(g->tokenizer, id);
    if (!hidden) utf8_push(&g->stream, piece.at, piece.length, &g->text);
    show(g, id, find_stop(g, &found));
    if (found) g->result.end = GENERATION_STOP;
}

static void show_rest(Generation *g) {
    bool found = false;
    utf8_finish(&g->stream, &g->text);
    size_t end = find_stop(g, &found);
    show(g, -1, found || g->result.end == GENERATION_STOP ? end : g->text.count);
}

// ---- the model ---------------------------------------------------------------------------------
static int64_t room(const Generation *g) {
    return llama_config(g->llama)->context - llama_position(g->llama);
}

// Forgets the older half of what may be forgotten, or as much more as `count` tokens need.
static int make_room(Generation *g, int64_t count) {
    int64_t position = llama_position(g->llama), keep = min_i64(g->how->keep, position);
    int64_t gone = max_i64((position - keep + 1) / 2, count - room(g));
    if (gone > position - keep)
        return fail("%lld tokens do not fit a context of %lld, of which %lld are kept. Use a "
                    "larger -c, or a shorter prompt",
                    (long long)count, (long long)llama_config(g->llama)->context, (long long)keep);
    llama_shift(g->llama, keep, gone);
    int32_t *at = g->history.at + keep;
    memmove(at, at + gone, (size_t)(g->history.count - keep - gone) * sizeof *at);
    g->history.count -= (int32_t)gone;
    g->result.forgotten += gone;
    return 0;
}

static bool goes_on(Generation *g, int64_t done, int64_t count) {
    if (g->how->reading && !g->how->reading(g->how->context, done, count)) g->cancelled = true;
    return !g->cancelled;
}

static int read_prompt(Generation *g) {
    int64_t count = g->history.count - llama_position(g->llama);
    g->result.prompt_count = count;
    if (count > room(g) && g->how->shift && make_room(g, count) < 0) return -1;
    for (int64_t done = 0; done < count && goes_on(g, done, count);) {
        int64_t piece = min_i64(PIECE, count - done);
        const int32_t *ids = g->history.at + llama_position(g->llama);
        done += piece;
        float *to = done == count ? g->logits : NULL;
        if (llama_forward(g->llama, ids, piece, to, NULL) < 0) return -1;
    }
    g->guesses = g->row = 0;
    return 0;
}

// What followed the last tokens of history when they stood there last; how many, or 0.
static int guess(Generation *g, int most) {
    const int32_t *ids = g->history.at;
    int32_t end = g->history.count;
    for (int length = MATCH_LONGEST; length >= MATCH_LEAST; length--)
        for (int32_t at = end - length - 1; at >= 0; at--) {
            if (memcmp(ids + at, ids + end - length, (size_t)length * sizeof *ids)) continue;
            int32_t first = at + length;
            int count = (int)min_i64(most, end - first);
            memcpy(g->guess, ids + first, (size_t)count * sizeof *ids);
            return count >= GUESS_LEAST ? count : 0;
        }
    return 0;
}

// Logits after the token that was chosen last.
static int read_token(Generation *g, int32_t id) {
    if (g->row < g->guesses && g->guess[g->row] == id) {
        g->row++;
        g->result.guessed++;
        return 0;
    }
    llama_rewind(g->llama, g->history.count - 1);
    if (room(g) < 1 && make_room(g, 1) < 0) return -1;
    int64_t left = g->how->count < 0 ? GUESS : g->how->count - g->result.count;
    int most = (int)min_i64(min_i64(GUESS, left), room(g) - 1);
    int32_t ids[GUESS + 1] = {id};
    g->guesses = g->how->lookup ? guess(g, most) : 0;
    g->row = 0;
    g->result.steps++;
    if (!g->guesses) return llama_forward(g->llama, ids, 1, g->logits, NULL);
    memcpy(ids + 1, g->guess, (size_t)g->guesses * sizeof *ids);
    return llama_forward(g->llama, ids, g->guesses + 1, NULL, g->logits);
}

// ---- the loop ----------------------------------------------------------------------------------
static void note_time(Generation *g) {
    double now = clock_seconds();
    if (g->result.count == 0)
        g->result.first_seconds = now - g->result.start;
    else
        *list_add(g->scratch, &g->interval) = now - g->last;
    g->last = now;
}

// Whether there is a place for one more token, once the chosen ones are in the cache.
static bool has_place(const Generation *g) {
    return g->how->shift || g->history.count < llama_config(g->llama)->context;
}

static int choose_tokens(Generation *g) {
    int64_t vocabulary = llama_config(g->llama)->vocabulary;
    while (g->result.end == GENERATION_GOES_ON) {
        float *logits = g->logits + g->row * vocabulary;
        int32_t id =
            sampler_next(g->how->sampler, logits, vocabulary, g->history.at, g->history.count);
        if (g->tokenizer && tokenizer_is_end(g->tokenizer, id)) {
            g->result.end = GENERATION_END;
            g->result.end_id = id;
            return 0;
        }
        note_time(g);
        *list_add(g->arena, &g->history) = id;
        g->result.count++;
        show_token(g, id);
        if (g->result.end != GENERATION_GOES_ON) return 0;
        if (g->cancelled)
            g->result.end = GENERATION_CANCELLED;
        else if (g->result.count == g->how->count)
            g->result.end = GENERATION_COUNT;
        else if (!has_place(g))
            g->result.end = GENERATION_FULL;
        else if (read_token(g, id) < 0)
            return -1;
    }
    return 0;
}

static int run(Generation *g) {
    double compiled = engine_compile_seconds();
    g->result.start = g->last = clock_seconds();
    if (g->history.count <= llama_position(g->llama))
        return fail("there is nothing to continue: the prompt is empty");
    bool full = !g->how->shift && g->history.count == llama_config(g->llama)->context;
    if (full && g->how->count != 0) {
        g->result.end = GENERATION_FULL;
        return 0;
    }
    if (read_prompt(g) < 0) return -1;
    g->result.first_seconds = clock_seconds() - g->result.start;  // until there is a token
    g->result.prompt_compile_seconds = engine_compile_seconds() - compiled;
    if (g->cancelled) g->result.end = GENERATION_CANCELLED;
    if (g->how->count == 0) g->result.end = GENERATION_COUNT;
    int status = choose_tokens(g);
    llama_rewind(g->llama, g->history.count);  // what was guessed beyond
    g->result.compile_seconds = engine_compile_seconds() - compiled;
    return status;
}

int generation_run(Generation *generation, const GenerationHow *how, GenerationResult *result) {
    Generation *g = generation;
    arena_reset(g->scratch);
    g->how = how;
    g->result = (GenerationResult){.end_id = -1};
    g->text = text_new(g->scratch);
    g->shown = 0;
    g->stream = (Utf8Stream){0};
    memset(&g->interval, 0, sizeof g->interval);
    g->cancelled = false;
    int status = run(g);
    if (status == 0) show_rest(g);
    g->result.seconds = g->last - g->result.start;
    g->result.text = (TextSpan){g->text.at, g->shown};
    g->result.interval = g->interval.at;
    *result = g->result;
    return status;
}
