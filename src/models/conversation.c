/* conversation.c - user and model in turn, over one cache.
 * In: what the user says.  Out: what the model answers.
 * Invariants: only what is new is read; turns are a system message, if any, then user and assistant
 * alternately, so that a message that got no answer is not there; a turn's tokens begin at its
 * start in the history, unless that is in the beginning, since the context was full: they are
 * forgotten.
 *   conversation_say(c, "Hi", 2, &how, &result)   =>   "Hello! How can I help?"                  */
#include "models/models.h"

#include <string.h>

typedef struct {
    Message message;
    int32_t start;     // in history; a user's tokens begin with what closes the answer before
    int32_t ended_by;  // of an answer: the token that ended it, which is not in history, or -1
} Turn;

struct Conversation {
    Llama *llama;
    const Tokenizer *tokenizer;
    const Template *template;
    Generation *generation;
    Arena *arena;  // of turns
    LIST(Turn) turns;
    int32_t keep;  // tokens of the beginning, which are never forgotten
};

Conversation *conversation_new(Llama *llama, const Tokenizer *tokenizer, const Template *template) {
    Arena *arena = arena_new();
    Conversation *new = arena_object(arena, Conversation);
    *new = (Conversation){.llama = llama,
                          .tokenizer = tokenizer,
                          .template = template,
                          .generation = generation_new(llama, tokenizer),
                          .arena = arena};
    return new;
}

void conversation_free(Conversation *conversation) {
    if (!conversation) return;
    generation_free(conversation->generation);
    arena_free(conversation->arena);
}

// ---- turns -------------------------------------------------------------------------------------
const IdList *conversation_history(const Conversation *conversation) {
    return generation_history(conversation->generation);
}

static int32_t position(const Conversation *c) { return conversation_history(c)->count; }

static Turn *add_turn(Conversation *c, Speaker by, const char *text, size_t length) {
    Turn *turn = list_add(c->arena, &c->turns);
    char *copy = arena_alloc(c->arena, length + 1);
    memcpy(copy, text, length);
    *turn = (Turn){{by, copy, length}, position(c), -1};
    return turn;
}

static Message *messages_of(const Conversation *c, Arena *arena) {
    Message *messages = arena_array(arena, Message, c->turns.count);
    for (int32_t i = 0; i < c->turns.count; i++) messages[i] = c->turns.at[i].message;
    return messages;
}

// Leaves the first `count` turns. Where the context was full and nothing behind the beginning is
// left of them, they will be read again.
static void forget(Conversation *c, int32_t count) {
    if (count >= c->turns.count) return;
    int32_t start = c->turns.at[count].start;
    c->turns.count = count;
    generation_rewind(c->generation, start > c->keep ? start : 0);
    for (int32_t i = 0; i < count && start <= c->keep; i++) c->turns.at[i].start = 0;
}

static bool has_system(const Conversation *c) {
    return c->turns.count && c->turns.at->message.by == BY_SYSTEM;
}

// How many tokens two conversations have in common whose first messages differ.
static int32_t beginning(const Conversation *c) {
    Arena *scratch = arena_new();
    Message messages[2] = {{0}, {BY_USER, "a", 1}};
    bool system = has_system(c);
    IdList ids[2] = {{0}};
    int32_t same = 0;
    if (system) messages[0] = c->turns.at->message;
    for (int i = 0; i < 2; i++) {
        messages[1].text = i ? "b" : "a";
        if (template_encode(c->template, c->tokenizer, scratch, messages + !system, 1 + system, 0,
                            -1, &ids[i]) < 0)
            ids[i].count = 0;
    }
    while (same < ids[0].count && same < ids[1].count && ids[0].at[same] == ids[1].at[same]) same++;
    arena_free(scratch);
    return same;
}

void conversation_begin(Conversation *conversation, const char *system) {
    Conversation *c = conversation;
    generation_rewind(c->generation, 0);
    c->turns.count = 0;
    if (system) add_turn(c, BY_SYSTEM, system, strlen(system));
    c->keep = beginning(c);
}

// ---- answers -----------------------------------------------------------------------------------
// All turns; where they have been forgotten and are too many, the last of them.
static int encode_all(const Conversation *c, Arena *scratch, IdList *ids) {
    Message *messages = messages_of(c, scratch), system = *messages;
    int64_t context = llama_config(c->llama)->context;
    for (int32_t skipped = 0;; skipped += 2) {
        if (has_system(c)) messages[skipped] = system;
        ids->count = 0;
        if (template_encode(c->template, c->tokenizer, scratch, messages + skipped,
                            c->turns.count - skipped, 0, -1, ids) < 0)
            return -1;
        if (ids->count < context || skipped + 2 >= c->turns.count - has_system(c)) return 0;
    }
}

// Gives the model the last turn, a user's.
static int read_turn(Conversation *c) {
    Arena *scratch = arena_new();
    IdList ids = {0};
    int32_t last = c->turns.count - 1, before = last - 1;
    bool first = position(c) == 0 || last == has_system(c);
    int status = first
                     ? encode_all(c, scratch, &ids)
                     : template_encode(c->template, c->tokenizer, scratch, messages_of(c, scratch),
                                       c->turns.count, before, c->turns.at[before].ended_by, &ids);
    if (status == 0) generation_add(c->generation, ids.at, ids.count);
    arena_free(scratch);
    return status;
}

static int check_room(const Conversation *c, const GenerationHow *how) {
    int64_t context = llama_config(c->llama)->context;
    if (how->shift || position(c) < context) return 0;
    return fail("with this message the conversation has %d tokens, which leave no room for an "
                "answer in a context of %lld",
                position(c), (long long)context);
}

// What was forgotten lay behind the beginning; tokens behind it have moved.
static void move_starts(Conversation *c, int64_t forgotten) {
    for (int32_t i = 0; i < c->turns.count; i++) {
        Turn *turn = &c->turns.at[i];
        if (turn->start > c->keep) turn->start = (int32_t)max_i64(c->keep, turn->start - forgotten);
    }
}

// To the last turn, a user's, which goes if there is no answer.
static int answer(Conversation *c, const GenerationHow *how, GenerationResult *result) {
    GenerationHow mine = *how;
    mine.keep = c->keep;
    Turn *turn = add_turn(c, BY_ASSISTANT, "", 0);
    int status = generation_run(c->generation, &mine, result);
    move_starts(c, result->forgotten);
    bool answered = status == 0 && (result->count > 0 || result->end == GENERATION_END);
    if (!answered) {
        forget(c, c->turns.count - 2);
        return status;
    }
    char *text = arena_copy(c->arena, result->text.at, result->text.length);
    turn->message = (Message){BY_ASSISTANT, text, result->text.length};
    turn->ended_by = result->end_id;
    return 0;
}

int conversation_say(Conversation *conversation, const char *text, size_t length,
                     const GenerationHow *how, GenerationResult *result) {
    Conversation *c = conversation;
    *result = (GenerationResult){.end_id = -1};
    add_turn(c, BY_USER, text, length);
    if (read_turn(c) == 0 && check_room(c, how) == 0) return answer(c, how, result);
    forget(c, c->turns.count - 1);
    return -1;
}

int conversation_again(Conversation *conversation, const GenerationHow *how,
                       GenerationResult *result) {
    Conversation *c = conversation;
    *result = (GenerationResult){.end_id = -1};
    int32_t last = c->turns.count - 1;
    if (last < 1 || c->turns.at[last].message.by != BY_ASSISTANT)
        return fail("there is no answer yet");
    int32_t start = c->turns.at[last].start;
    if (start <= max_i64(c->keep, c->turns.at[last - 1].start))
        return fail("the context was full, and what the answer is to is forgotten");
    int32_t id = generation_history(c->generation)->at[start - 1];  // its logits are wanted again
    c->turns.count = last;
    generation_rewind(c->generation, start - 1);
    generation_add(c->generation, &id, 1);
    return answer(c, how, result);
}

bool conversation_undo(Conversation *conversation) {
    int32_t left = conversation->turns.count - 2;
    if (left < has_system(conversation)) return false;
    forget(conversation, left);
    return true;
}

const Message *conversation_message(const Conversation *conversation, int64_t i) {
    return i >= 0 && i < conversation->turns.count ? &conversation->turns.at[i].message : NULL;
}

// ---- files -------------------------------------------------------------------------------------
// Behind the cache and its tokens, in the machine's byte order, which is little-endian: Saved | the
// template's name | the system message and the turns, each SavedTurn and its text | tokens that the
// cache does not hold yet.
typedef struct {
    char magic[8];
    uint32_t version, name_bytes, turns, pending;
    uint64_t sampler_state;
    double sampler_correction;
} Saved;
typedef struct {
    int32_t by, start, ended_by;
    uint32_t bytes;
} SavedTurn;
static const char magic[8] = "PGCHAT\0";
enum { VERSION = 1 };

int conversation_save(const Conversation *conversation, const char *path, const Sampler *sampler) {
    const Conversation *c = conversation;
    const IdList *history = generation_history(c->generation);
    int64_t held = llama_position(c->llama);
    if (!held) return fail("there is nothing to save yet");
    Arena *scratch = arena_new();
    Text extra = text_new(scratch);
    const char *name = template_name(c->template);
    Saved saved = {.version = VERSION,
                   .name_bytes = (uint32_t)strlen(name),
                   .turns = (uint32_t)c->turns.count,
                   .pending = (uint32_t)(history->count - held),
                   .sampler_state = sampler->state,
                   .sampler_correction = sampler->correction};
    memcpy(saved.magic, magic, sizeof magic);
    text_add_bytes(&extra, (const char *)&saved, sizeof saved);
    text_add_bytes(&extra, name, saved.name_bytes);
    for (int32_t i = 0; i < c->turns.count; i++) {
        const Turn *turn = &c->turns.at[i];
        SavedTurn head = {(int32_t)turn->message.by, turn->start, turn->ended_by,
                          (uint32_t)turn->message.length};
        text_add_bytes(&extra, (const char *)&head, sizeof head);
        text_add_bytes(&extra, turn->message.text, turn->message.length);
    }
    text_add_bytes(&extra, (const char *)(history->at + held), saved.pending * sizeof(int32_t));
    int status = generation_save(c->generation, path, (TextSpan){extra.at, extra.count});
    arena_free(scratch);
    return status;
}

typedef struct {
    const char *path, *at, *end;
} Reading;

// The next bytes, or NULL with a message.
static const char *take(Reading *from, size_t bytes) {
    const char *at = from->at;
    if (bytes > (size_t)(from->end - at)) {
        fail("%s: the conversation in it is cut short", from->path);
        return NULL;
    }
    from->at += bytes;
    return at;
}

static int load_turn(Conversation *c, Reading *from, const Saved *saved, int32_t tokens) {
    SavedTurn head;
    const char *at = take(from, sizeof head);
    if (!at) return -1;
    memcpy(&head, at, sizeof head);
    if (!(at = take(from, head.bytes))) return -1;
    int32_t i = c->turns.count, first = has_system(c) || (i == 0 && head.by == BY_SYSTEM);
    int32_t by = i < first ? BY_SYSTEM : (i - first) % 2 ? BY_ASSISTANT : BY_USER;
    int32_t before = i ? c->turns.at[i - 1].start : 0;
    bool ends = head.ended_by >= -1 && head.ended_by < tokenizer_count(c->tokenizer);
    if (head.by != by || head.start < before || head.start > tokens || !ends)
        return fail("%s: turn %d of %u in it is damaged", from->path, i, saved->turns);
    Turn *turn = add_turn(c, (Speaker)head.by, at, head.bytes);
    turn->start = head.start;
    turn->ended_by = head.ended_by;
    return 0;
}

static int load_pending(Conversation *c, Reading *from, const Saved *saved) {
    const char *at = take(from, (size_t)saved->pending * sizeof(int32_t));
    for (uint32_t i = 0; at && i < saved->pending; i++) {
        int32_t id;
        memcpy(&id, at + i * sizeof id, sizeof id);
        if (id < 0 || id >= llama_config(c->llama)->vocabulary)
            return fail("%s: token %d in it is outside the vocabulary", from->path, id);
        generation_add(c->generation, &id, 1);
    }
    return at ? 0 : -1;
}

static int load(Conversation *c, Reading *from, Sampler *sampler) {
    Saved saved;
    const char *at = take(from, sizeof saved), *name;
    if (!at || memcmp(at, magic, sizeof magic))
        return fail("%s holds a state, but no conversation", from->path);
    memcpy(&saved, at, sizeof saved);
    if (saved.version != VERSION)
        return fail("%s: its conversation is of version %u, this picograd reads %d", from->path,
                    saved.version, VERSION);
    if (!(name = take(from, saved.name_bytes))) return -1;
    if (strlen(template_name(c->template)) != saved.name_bytes ||
        memcmp(name, template_name(c->template), saved.name_bytes))
        return fail("%s: its conversation is in the chat template %.*s, this one in %s", from->path,
                    (int)min_i64(saved.name_bytes, 40), name, template_name(c->template));
    int32_t tokens = position(c) + (int32_t)min_i64(saved.pending, INT32_MAX / 2);
    for (uint32_t i = 0; i < saved.turns; i++)
        if (load_turn(c, from, &saved, tokens) < 0) return -1;
    if (load_pending(c, from, &saved) < 0) return -1;
    if ((c->turns.count - has_system(c)) % 2 || from->at != from->end)
        return fail("%s: the conversation in it does not end where it should", from->path);
    sampler->state = saved.sampler_state;
    sampler->correction = saved.sampler_correction;
    return 0;
}

int conversation_load(Conversation *conversation, const char *path, Sampler *sampler) {
    Conversation *c = conversation;
    Arena *scratch = arena_new();
    TextSpan extra;
    int status = generation_restore(c->generation, path, scratch, &extra);
    if (status == 0) {
        c->turns.count = 0;
        status = load(c, &(Reading){path, extra.at, extra.at + extra.length}, sampler);
        if (status < 0)
            conversation_begin(c, NULL);
        else
            c->keep = beginning(c);
    }
    arena_free(scratch);
    return status;
}
