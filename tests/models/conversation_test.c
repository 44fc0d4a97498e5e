/* conversation_test.c - turns over one cache, on a small random model: what is read, what is taken
 * back, what is kept in files and what files may not do. */
#include "../io/helpers.h"
#include "models/models.h"
#include "test.h"

#include <math.h>
#include <string.h>

typedef struct {
    Arena *arena;
    Gguf *gguf;
    Tokenizer *tokenizer;
    Llama *llama;
    Template *template;
    Conversation *talk;
    Sampler sampler;
    LogitBias never[8];  // the tokens that end a text
    GenerationResult result;
    int shows;      // tokens that may still be shown
    int32_t saved;  // tokens in a file
} Fixture;

static Fixture f;

static void open_small(int64_t context) {
    pg_set_mode(PG_GRAPH);
    f = (Fixture){.arena = arena_new(), .sampler = {SAMPLER_DEFAULTS}, .shows = 1000};
    f.sampler.temperature = 0;
    f.gguf = gguf_open("tests/models/small/llama");
    if (!f.gguf) SKIP("this build reads no folders");
    f.tokenizer = tokenizer_open(f.gguf);
    f.llama = llama_open(f.gguf, context, 1);
    f.template = template_open(f.arena, f.gguf, f.tokenizer, NULL);
    CHECK(f.tokenizer && f.llama && f.template);
    f.talk = conversation_new(f.llama, f.tokenizer, f.template);
    conversation_begin(f.talk, "Be brief.");
    f.sampler.bias = f.never;
    for (int32_t id = 0; id < tokenizer_count(f.tokenizer); id++)
        if (tokenizer_is_end(f.tokenizer, id))
            f.never[f.sampler.biases++] = (LogitBias){id, -INFINITY};
}

static void close_small(void) {
    conversation_free(f.talk);
    sampler_free(&f.sampler);
    llama_close(f.llama);
    tokenizer_close(f.tokenizer);
    gguf_close(f.gguf);
    arena_free(f.arena);
}

static bool hear(void *context, int32_t id, TextSpan text) {
    (void)context, (void)text;
    return id < 0 || --f.shows > 0;
}

static bool begin_reading(void *context, int64_t done, int64_t count) {
    (void)context, (void)done, (void)count;
    return f.shows > 0;
}

static GenerationHow how(int64_t count, bool shift) {
    return (GenerationHow){.sampler = &f.sampler,
                           .count = count,
                           .shift = shift,
                           .show = hear,
                           .reading = begin_reading};
}

static int say_count(const char *text, int64_t count, bool shift) {
    GenerationHow this_way = how(count, shift);
    return conversation_say(f.talk, text, strlen(text), &this_way, &f.result);
}

static int messages(void) {
    int count = 0;
    while (conversation_message(f.talk, count)) count++;
    return count;
}

static const char *message(int i) {
    const Message *at = conversation_message(f.talk, i);
    return at ? arena_print(f.arena, "%.*s", (int)at->length, at->text) : "(none)";
}

// Ids of a conversation of two messages, or of what follows its answer.
static int32_t tokens_of(int64_t count, int64_t from) {
    const Message all[] = {{BY_SYSTEM, "Be brief.", 9},
                           {BY_USER, "Hi", 2},
                           {BY_ASSISTANT, "x", 1},
                           {BY_USER, "Why?", 4}};
    IdList ids = {0};
    CHECK_INT(template_encode(f.template, f.tokenizer, f.arena, all, count, from, -1, &ids), 0);
    return ids.count;
}

TEST(only_what_is_new_is_read) {
    open_small(256);
    CHECK_INT(say_count("Hi", 5, false), 0);
    CHECK_INT(f.result.prompt_count, tokens_of(2, 0));
    CHECK_INT(llama_position(f.llama), tokens_of(2, 0) + 4);  // the last token waits
    CHECK_INT(say_count("Why?", 3, false), 0);
    CHECK_INT(f.result.prompt_count, tokens_of(4, 2) + 1);
    CHECK_INT(messages(), 5);
    CHECK_TEXT(message(0), "Be brief.");
    CHECK_TEXT(message(3), "Why?");
    close_small();
}

TEST(again_and_undo_come_to_the_same) {
    open_small(256);
    GenerationHow this_way = how(5, false);
    CHECK_FAIL(conversation_again(f.talk, &this_way, &f.result), "no answer yet");
    CHECK(!conversation_undo(f.talk));
    CHECK_INT(say_count("Hi", 5, false), 0);
    CHECK_INT(say_count("Why?", 5, false), 0);
    const char *answer = message(4);
    CHECK_INT(conversation_again(f.talk, &this_way, &f.result), 0);
    CHECK_INT(f.result.prompt_count, 1);
    CHECK_TEXT(message(4), answer);
    CHECK(conversation_undo(f.talk));
    CHECK_INT(messages(), 3);
    CHECK_INT(say_count("Why?", 5, false), 0);
    CHECK_TEXT(message(4), answer);
    CHECK(conversation_undo(f.talk) && conversation_undo(f.talk) && !conversation_undo(f.talk));
    CHECK_INT(llama_position(f.llama), 0);
    CHECK_INT(messages(), 1);
    close_small();
}

TEST(a_message_without_an_answer_is_taken_back) {
    open_small(96);
    CHECK_INT(say_count("Hi", 2, false), 0);
    int64_t position = llama_position(f.llama);
    f.shows = 0;
    CHECK_INT(say_count("Why?", 5, false), 0);
    CHECK_INT(f.result.end, GENERATION_CANCELLED);
    CHECK_INT(messages(), 3);
    CHECK(llama_position(f.llama) <= position + 1);  // the first answer's last token
    f.shows = 1000;
    char many[200];
    memset(many, 'x', sizeof many - 1);
    many[sizeof many - 1] = 0;
    CHECK_FAIL(say_count(many, 5, false), "leave no room for an answer in a context of 96");
    CHECK_INT(messages(), 3);
    f.shows = 2;
    CHECK_INT(say_count("Why?", 5, false), 0);  // stopped within the answer, which stays
    CHECK_INT(messages(), 5);
    close_small();
}

TEST(the_beginning_outlasts_a_full_context) {
    open_small(64);
    GenerationHow this_way = how(20, true);
    for (int i = 0; i < 4; i++) CHECK_INT(say_count("Hi", 20, true), 0);
    CHECK(f.result.forgotten > 0);
    CHECK_INT(messages(), 9);
    CHECK(llama_position(f.llama) <= 64);
    CHECK(conversation_undo(f.talk) && conversation_undo(f.talk) && conversation_undo(f.talk));
    CHECK_FAIL(conversation_again(f.talk, &this_way, &f.result), "is forgotten");
    CHECK_INT(messages(), 3);
    CHECK_INT(say_count("Hi", 5, true), 0);  // with the first, it would be over 64 tokens
    CHECK_INT(f.result.prompt_count, tokens_of(2, 0));
    close_small();
}

// ---- files -------------------------------------------------------------------------------------
static const char *saved_talk(void) {
    const char *path = temporary_path(f.arena, "talk");
    CHECK_INT(say_count("Hi", 5, false), 0);
    CHECK_INT(conversation_save(f.talk, path, &f.sampler), 0);
    return path;
}

TEST(a_file_goes_on_where_it_was) {
    open_small(256);
    const char *path = saved_talk();
    CHECK_INT(say_count("Why?", 5, false), 0);
    const char *answer = message(4);
    f.sampler.state = 99;
    conversation_begin(f.talk, NULL);
    CHECK_INT(conversation_load(f.talk, path, &f.sampler), 0);
    CHECK_INT((int64_t)f.sampler.state, 0);
    CHECK_INT(messages(), 3);
    CHECK_TEXT(message(0), "Be brief.");
    CHECK_INT(say_count("Why?", 5, false), 0);
    CHECK_INT(f.result.prompt_count, tokens_of(4, 2) + 1);
    CHECK_TEXT(message(4), answer);
    close_small();
}

// The state around a conversation has a sum; so these are files that someone has made.
static int load_extra(const char *path, const char *extra, size_t bytes) {
    Generation *writer = generation_new(f.llama, f.tokenizer);
    for (int32_t id = 0; id < f.saved; id++) generation_add(writer, &id, 1);
    GenerationHow read_only = how(0, false);
    CHECK_INT(generation_run(writer, &read_only, &f.result), 0);
    CHECK_INT(generation_save(writer, path, (TextSpan){extra, bytes}), 0);
    generation_free(writer);
    return conversation_load(f.talk, path, &f.sampler);
}

TEST(a_wrong_conversation_is_refused_and_one_begins_anew) {
    open_small(256);
    Generation *reader = generation_new(f.llama, f.tokenizer);
    TextSpan good;
    const char *path = saved_talk();
    CHECK_INT(generation_restore(reader, path, f.arena, &good), 0);
    f.saved = generation_history(reader)->count;
    generation_free(reader);
    char *extra = arena_copy(f.arena, good.at, good.length);
    CHECK_FAIL(load_extra(path, "", 0), "no conversation");
    CHECK_FAIL(load_extra(path, extra, good.length - 1), "cut short");
    for (size_t length = 0; length < good.length; length += 3)
        CHECK_FAIL(load_extra(path, extra, length), path);
    for (size_t i = 0; i < good.length; i++) {
        extra[i] ^= (char)0x80;
        int status = load_extra(path, extra, good.length);
        CHECK(status == 0 || (messages() == 0 && llama_position(f.llama) == 0));
        extra[i] ^= (char)0x80;
    }
    conversation_begin(f.talk, NULL);
    CHECK_INT(say_count("Hi", 2, false), 0);
    close_small();
}
