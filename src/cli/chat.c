/* chat.c - picograd chat: a conversation with a model.
 * In: messages, from a person or a pipe, one a line; commands, which begin with a slash.
 * Out: the answers alone on standard output, as they come; all else on standard error.
 * Invariant: Ctrl-C ends an answer and not the program; what goes wrong with a message or a command
 * is said in a line, and the conversation goes on.
 *   picograd chat -m smollm2                                                                     */
#include "cli/cli.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    Session session;
    Arena *arena;
    const char *first, *template_name, *system, *state, *on_full;
    int64_t count;
    bool single;
    Sampling sampling;
    uint64_t seed;
    Template *template;
    Conversation *conversation;
    LineReader *line;
    GenerationResult result;  // of the last answer
    int64_t tokens;           // of this answer that were shown
    bool begun, ended;        // the answer, with a character, with a newline
    bool lost;                // standard output could not be written
    bool failed, leaving;     // something, at all; the program
} Chat;

typedef struct {
    const char *name, *argument, *about;
    void (*run)(Chat *chat, const char *rest);
} ChatCommand;

static void complain(Chat *chat) {
    failed();
    chat->failed = true;
}

// ---- an answer ---------------------------------------------------------------------------------
// Some models begin each answer with a blank.
static bool print_answer(Chat *chat, const char *text, size_t length) {
    while (!chat->begun && length && (*text == ' ' || *text == '\n')) text++, length--;
    if (!length) return true;
    chat->begun = true;
    chat->ended = text[length - 1] == '\n';
    if (fwrite(text, 1, length, stdout) == length && !fflush(stdout)) return true;
    fail("cannot write standard output: %s", strerror(errno));
    chat->lost = true;
    return false;
}

static bool show(void *context, int32_t id, TextSpan text) {
    Chat *chat = context;
    hint_clear();
    bool done = print_answer(chat, text.at, text.length);
    if (id >= 0 && chat->tokens++ == 0 && pg_mode() == PG_GRAPH) hint(" ...");
    return done && !interrupted();
}

static void print_ids_read(const Chat *chat, int64_t count) {
    const IdList *history = conversation_history(chat->conversation);
    fprintf(stderr, "picograd: ids read:");
    for (int64_t i = history->count - count; i < history->count; i++)
        fprintf(stderr, " %d", history->at[i]);
    fputc('\n', stderr);
}

static bool reading(void *context, int64_t done, int64_t count) {
    if (!done && common.verbose) print_ids_read(context, count);
    if (done)
        hint("read %lld of %lld tokens ...", (long long)done, (long long)count);
    else
        hint("...");
    return !interrupted();
}

static void print_speed_line(const Chat *chat) {
    const GenerationResult *result = &chat->result;
    double read = result->first_seconds - result->prompt_compile_seconds;
    double compiled = result->compile_seconds - result->prompt_compile_seconds;
    double answered = result->seconds - result->first_seconds - compiled;
    char speed[64] = "";  // one token has no interval to the next
    if (result->count > 1)
        snprintf(speed, sizeof speed, " at %.1f tokens/s",
                 per_second((double)(result->count - 1), answered));
    say("read %lld tokens at %.1f tokens/s, answered %lld%s", (long long)result->prompt_count,
        per_second((double)result->prompt_count, read), (long long)result->count, speed);
}

static void print_end(const Chat *chat) {
    const GenerationResult *result = &chat->result;
    long long context = (long long)llama_config(chat->session.llama)->context;
    if (result->forgotten)
        say("the context of %lld tokens was full: %lld of the oldest are forgotten", context,
            (long long)result->forgotten);
    if (result->end == GENERATION_FULL)
        say("the context of %lld tokens is full. Hint: /undo, /reset, a larger -c, or --on-full "
            "shift, which forgets the oldest",
            context);
    if (result->end == GENERATION_CANCELLED && !result->count)
        say("stopped before an answer; the message is taken back");
    if (common.verbose && result->count) print_speed_line(chat);
}

// text NULL: another answer to the last message.
static void talk(Chat *chat, const char *text, size_t length) {
    GenerationHow how = {.sampler = &chat->sampling.sampler,
                         .count = chat->count,
                         .shift = chat->on_full && !strcmp(chat->on_full, "shift"),
                         .show = show,
                         .reading = reading,
                         .context = chat};
    Conversation *conversation = chat->conversation;
    chat->tokens = 0;
    chat->begun = false;
    chat->ended = true;
    interrupt_watch();
    int status = text ? conversation_say(conversation, text, length, &how, &chat->result)
                      : conversation_again(conversation, &how, &chat->result);
    hint_clear();
    if (!chat->ended) print_answer(chat, "\n", 1);
    if (status == 0)
        print_end(chat);
    else if (interrupted())  // it reaches a compiler, too
        say("stopped; the message is taken back");
    else
        complain(chat);
    if (!chat->lost) return;
    complain(chat);
    chat->leaving = true;
}

// ---- commands ----------------------------------------------------------------------------------
static const ChatCommand *chat_commands(int *count);

static void begin(Chat *chat) {
    conversation_begin(chat->conversation, chat->system);
    chat->sampling.sampler.correction = 0;
    if (chat->sampling.seed >= 0) chat->sampling.sampler.state = chat->seed;
}

static void do_help(Chat *chat, const char *rest) {
    int count;
    const ChatCommand *command = chat_commands(&count);
    (void)chat, (void)rest;
    for (int i = 0; i < count; i++)
        fprintf(stderr, "  /%-7s %-6s %s\n", command[i].name, command[i].argument,
                command[i].about);
    fprintf(stderr, "A line that ends with \\ goes on in the next; \"\"\" begins and ends several "
                    "lines.\nCtrl-C stops an answer, Ctrl-D leaves.\n");
}

static void do_reset(Chat *chat, const char *rest) {
    (void)rest;
    begin(chat);
    say("a new conversation");
}

static void do_system(Chat *chat, const char *rest) {
    const Message *first = conversation_message(chat->conversation, 0);
    bool given = first && first->by == BY_SYSTEM;
    const char *told = given ? first->text : template_system(chat->template);
    if (*rest) {
        chat->system = arena_text(chat->arena, rest);
        do_reset(chat, rest);
    } else {
        say("the system message is%s%s", told && *told ? ": " : " empty", told ? told : "");
    }
}

static void do_regen(Chat *chat, const char *rest) {
    (void)rest;
    talk(chat, NULL, 0);
}

static void do_undo(Chat *chat, const char *rest) {
    (void)rest;
    bool done = conversation_undo(chat->conversation);
    say(done ? "the last message and its answer are taken back" : "there is nothing to take back");
}

static void do_save(Chat *chat, const char *rest) {
    if (conversation_save(chat->conversation, rest, &chat->sampling.sampler) < 0)
        complain(chat);
    else
        say("saved; /load %s goes on from here", rest);
}

static void print_place(const Chat *chat) {
    int64_t messages = 0;
    while (conversation_message(chat->conversation, messages)) messages++;
    say("%lld messages; %lld of %lld tokens of context, %.1f MB of cache", (long long)messages,
        (long long)llama_position(chat->session.llama),
        (long long)llama_config(chat->session.llama)->context,
        (double)llama_cache_bytes(chat->session.llama) / 1e6);
}

static void do_load(Chat *chat, const char *rest) {
    if (conversation_load(chat->conversation, rest, &chat->sampling.sampler) < 0)
        complain(chat);
    else
        print_place(chat);
}

static void do_stats(Chat *chat, const char *rest) {
    (void)rest;
    print_place(chat);
    if (chat->result.count) print_speed_line(chat);
}

static void do_exit(Chat *chat, const char *rest) {
    (void)rest;
    chat->leaving = true;
}

static const ChatCommand *chat_commands(int *count) {
    static const ChatCommand commands_of_chat[] = {
        {"help", "", "this", do_help},
        {"reset", "", "begin a new conversation", do_reset},
        {"system", "[TEXT]", "tell the model what it is, in a new conversation; or show it",
         do_system},
        {"regen", "", "another answer instead of the last", do_regen},
        {"undo", "", "take back the last message and its answer", do_undo},
        {"save", "FILE", "keep the conversation, with what the model has read", do_save},
        {"load", "FILE", "go on with a conversation that was saved", do_load},
        {"stats", "", "how long the conversation is, how fast the last answer was", do_stats},
        {"exit", "", "leave", do_exit},
    };
    *count = COUNT_OF(commands_of_chat);
    return commands_of_chat;
}

static const char *chat_command_name(const void *table, int i) {
    return ((const ChatCommand *)table)[i].name;
}

static int run_command(Chat *chat, const char *line) {
    int count;
    const ChatCommand *command = chat_commands(&count);
    size_t length = strcspn(line, " \t");
    const char *rest = line + length + strspn(line + length, " \t");
    for (int i = 0; i < count; i++) {
        if (strlen(command[i].name) != length || strncmp(command[i].name, line, length)) continue;
        if (*command[i].argument && *command[i].argument != '[' && !*rest)
            return fail("/%s %s: which?", command[i].name, command[i].argument);
        if (!*command[i].argument && *rest)
            return fail("/%s takes nothing; what is '%.60s' for?", command[i].name, rest);
        command[i].run(chat, rest);
        return 0;
    }
    char name[32];
    snprintf(name, sizeof name, "%.*s", (int)min_i64((int64_t)length, 30), line);
    const char *near = closest_name(name, command, count, chat_command_name);
    if (near) return fail("no command /%s; did you mean /%s?", name, near);
    return fail(
        "no command /%s. /help lists them; a message that begins with a slash needs a blank "
        "before it",
        name);
}

// ---- messages ----------------------------------------------------------------------------------
static bool takes(Text *text, const char *end) {
    size_t length = strlen(end);
    if (text->count < length || memcmp(text->at + text->count - length, end, length)) return false;
    text->count -= length;
    text->at[text->count] = 0;
    return true;
}

// A line, or several: each but the last ends with a backslash, or all stand between """.
static LineResult read_message(Chat *chat, Text *message) {
    static const char quotes[] = "\"\"\"";
    LineResult result = line_read(chat->line, ">", message);
    if (result != LINE_READ) return result;
    line_remember(chat->line, message->at);
    bool block = !strncmp(message->at, quotes, 3);
    if (block) {
        Text rest = text_new(message->arena);
        text_add_bytes(&rest, message->at + 3, message->count - 3);
        *message = rest;
    }
    while (block ? !takes(message, quotes) : takes(message, "\\")) {
        Text next = text_new(message->arena);
        result = line_read(chat->line, ".", &next);
        if (result == LINE_END) break;
        if (result != LINE_READ) return LINE_DROPPED;
        line_remember(chat->line, next.at);
        if (message->count || !block) text_add(message, "\n");
        text_add_bytes(message, next.at, next.count);
    }
    if (block) takes(message, "\n");  // closing quotes may have a line of their own
    return LINE_READ;
}

static void handle(Chat *chat, const Text *message) {
    const char *at = message->at;
    if (at[strspn(at, " \t\r\n")] == 0 && strlen(at) == message->count) return;
    if (*at != '/')
        talk(chat, at, message->count);
    else if (run_command(chat, at + 1) < 0)
        complain(chat);
}

static void converse(Chat *chat) {
    bool pressed = false;  // Ctrl-C at an empty line, just before
    Arena *scratch = arena_new();
    while (!chat->leaving) {
        arena_reset(scratch);
        Text message = text_new(scratch);
        LineResult result = read_message(chat, &message);
        if (result == LINE_END && line_is_terminal(chat->line)) fputc('\n', stderr);
        if (result == LINE_END || (result == LINE_INTERRUPTED && pressed)) break;
        pressed = result == LINE_INTERRUPTED;
        if (pressed) say("Ctrl-C once more, Ctrl-D or /exit leaves");
        if (result != LINE_READ) continue;
        handle(chat, &message);
        if (line_is_terminal(chat->line)) fputc('\n', stderr);
        if (chat->single && chat->tokens) break;
    }
    arena_free(scratch);
}

// ---- the run -----------------------------------------------------------------------------------
static int open_chat(Chat *chat) {
    if (chat->on_full && strcmp(chat->on_full, "stop") && strcmp(chat->on_full, "shift"))
        return usage_wrong("chat: --on-full %.60s: stop or shift", chat->on_full);
    int status = session_open(&chat->session, true);
    if (status == EXIT_DONE) status = sampling_open(&chat->sampling, chat->arena, &chat->session);
    if (status != EXIT_DONE) return status;
    Session *session = &chat->session;
    if (!session->gguf)
        return usage_wrong("chat: random weights know no conversation. Try: -m smollm2");
    chat->template =
        template_open(chat->arena, session->gguf, session->tokenizer, chat->template_name);
    if (!chat->template) return failed();
    chat->seed = chat->sampling.sampler.state;
    chat->conversation = conversation_new(session->llama, session->tokenizer, chat->template);
    begin(chat);
    if (!chat->state || access(chat->state, F_OK)) return EXIT_DONE;
    do_load(chat, chat->state);
    return chat->failed ? EXIT_FAILED : EXIT_DONE;
}

static void greet(const Chat *chat) {
    fprintf(stderr,
            "%s, in %s, with room for %lld tokens. /help lists commands; Ctrl-C stops an "
            "answer, Ctrl-D leaves.\n\n",
            common.model, template_name(chat->template),
            (long long)llama_config(chat->session.llama)->context);
}

static int chat_with(Chat *chat) {
    int status = open_chat(chat);
    if (status != EXIT_DONE) return status;
    chat->line = line_open();
    bool terminal = line_is_terminal(chat->line);
    interrupt_watch();
    if (terminal) greet(chat);
    if (chat->first) {
        if (terminal) fprintf(stderr, "> %s\n", chat->first);
        talk(chat, chat->first, strlen(chat->first));
        if (terminal) fputc('\n', stderr);
    }
    if (!chat->single || !chat->first) converse(chat);
    line_close(chat->line);
    if (chat->state && conversation_message(chat->conversation, 0) &&
        conversation_save(chat->conversation, chat->state, &chat->sampling.sampler) < 0)
        complain(chat);
    return chat->failed && !terminal ? EXIT_FAILED : EXIT_DONE;
}

int run_chat(int count, char **argument) {
    Chat chat = {.count = -1, .sampling = SAMPLING_DEFAULTS};
    // clang-format off
    const Option table[] = {
        MODEL_OPTION,
        {"--prompt", "-p", OPTION_TEXT, &chat.first, 0, 0, "TEXT", "the first message"},
        CHAT_OPTIONS(chat.template_name, chat.system),
        {"--predict", "-n", OPTION_INT, &chat.count, -1, 1 << 24, "N",
         "tokens of an answer at most (-1: until the model ends it)"},
        CONTEXT_OPTION,
        {"--on-full", NULL, OPTION_TEXT, &chat.on_full, 0, 0, "HOW",
         "when the context is full: stop (the default), or shift: forget the older half"},
        {"--state", NULL, OPTION_TEXT, &chat.state, 0, 0, "FILE",
         "go on with the conversation in FILE, if it is there, and keep it there in the end"},
        {"--single-turn", "-st", OPTION_FLAG, &chat.single, 0, 0, NULL, "leave after one answer"},
        SAMPLER_OPTIONS(chat.sampling), RUN_OPTIONS,
    };
    // clang-format on
    int rests, parsed = OPTIONS_PARSE("chat", table, count, argument, 0, NULL, &rests);
    if (parsed) return parsed < 0 ? EXIT_USAGE : EXIT_DONE;
    chat.arena = arena_new();
    int status = chat_with(&chat);
    conversation_free(chat.conversation);
    sampling_close(&chat.sampling);
    session_close(&chat.session);
    arena_free(chat.arena);
    return status;
}
