/* template.c - a conversation as the text that a model was trained on.
 * In: messages; the chat template of a model's file.  Out: token ids, up to where an answer begins.
 * Invariants: a template's text is looked at, never run: it is one of these families or refused. Of
 * what a message says nothing becomes a control token. BOS comes once at the beginning where the
 * tokenizer or the template wants one, and again only where a row has it.
 *   user "Hi"   =>   chatml:
 *   <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n
 *
 * A family is a row. Sources: the templates that model makers publish in tokenizer_config.json; for
 * Mistral's versions github.com/mistralai/cookbook, concept-deep-dive/tokenization; what tells them
 * apart, as in llm_chat_detect_template of ggml-org/llama.cpp. Mistral's v3 puts a system message
 * into the last of the user's messages; here it is in the first, as in llama.cpp, since a message
 * that moves would make all that stands before it to be run again. */
#define _GNU_SOURCE  // memmem
#include "models/models.h"

#include <string.h>

// The tokens that begin and end a text, in a row's strings.
#define BOS "\1"
#define EOS "\2"

typedef struct {
    const char *before, *after;
} Frame;

enum { FEW = 4 };
typedef struct {
    const char *name;
    const char *begin;   // of the whole text
    Frame role[3];       // of each Speaker
    bool inside;         // a system message stands inside the first user message's frame
    bool trims;          // white space around messages is dropped, if the template's text says so
    const char *answer;  // what the model is to go on from
    const char *system;  // the message where none is given; NULL: none
    const char *has[FEW], *lacks[FEW];  // what a template's text contains if it is of this family
    const char *tokens[FEW];            // which its strings are made of
} Family;

// clang-format off
#define HEADER(role) "<|start_header_id|>" role "<|end_header_id|>\n\n"
#define DATES        "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
static const Family families[] = {
    {.name = "chatml",
     .role = {{"<|im_start|>system\n", "<|im_end|>\n"}, {"<|im_start|>user\n", "<|im_end|>\n"},
              {"<|im_start|>assistant\n", "<|im_end|>\n"}},
     .answer = "<|im_start|>assistant\n",
     .has = {"<|im_start|>", "<|im_end|>"}, .lacks = {"<|im_sep|>", "<end_of_utterance>"},
     .tokens = {"<|im_start|>", "<|im_end|>"}},
    {.name = "llama2", .inside = true, .trims = true,
     .role = {{"<<SYS>>\n", "\n<</SYS>>\n\n"}, {BOS "[INST] ", " [/INST]"}, {" ", " " EOS}},
     .answer = "",
     .has = {"[INST]", "<<SYS>>", "bos_token + '[INST]", "content.strip()"}},
    {.name = "llama3", .begin = BOS, .trims = true,
     .role = {{HEADER("system"), "<|eot_id|>"}, {HEADER("user"), "<|eot_id|>"},
              {HEADER("assistant"), "<|eot_id|>"}},
     .answer = HEADER("assistant"),
     .has = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
     .lacks = {"Cutting Knowledge Date"},
     .tokens = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}},
    {.name = "llama3.1", .begin = BOS, .trims = true,
     .role = {{HEADER("system") DATES, "<|eot_id|>"}, {HEADER("user"), "<|eot_id|>"},
              {HEADER("assistant"), "<|eot_id|>"}},
     .answer = HEADER("assistant"), .system = "",
     .has = {"<|start_header_id|>", "<|eot_id|>", "Cutting Knowledge Date: December 2023",
             "26 Jul 2024"},
     .tokens = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}},
    {.name = "mistral-v0", .begin = BOS, .inside = true,  // of Mistral-7B-Instruct-v0.1 and v0.2
     .role = {{"", "\n\n"}, {"[INST] ", " [/INST]"}, {"", EOS}},
     .answer = "",
     .has = {"'[INST] ' + message['content'] + ' [/INST]'", "message['content'] + eos_token"},
     .lacks = {"<<SYS>>", "system_message", "eos_token + ' '"}},
    {.name = "mistral-v1", .begin = BOS, .inside = true,
     .role = {{"", "\n\n"}, {" [INST] ", " [/INST]"}, {" ", EOS}},
     .answer = "",
     .has = {"' [INST] ' + system_message", "' [INST] ' + message['content'] + ' [/INST]'"}},
    {.name = "mistral-v3", .begin = BOS, .inside = true,
     .role = {{"", "\n\n"}, {"[INST] ", "[/INST]"}, {" ", EOS}},
     .answer = "",
     .has = {"[AVAILABLE_TOOLS]", "\"[INST] \"", "\"[/INST]\""}, .lacks = {"[SYSTEM_PROMPT]"},
     .tokens = {"[INST]", "[/INST]"}},
    {.name = "mistral-v3-tekken", .begin = BOS, .inside = true,
     .role = {{"", "\n\n"}, {"[INST]", "[/INST]"}, {"", EOS}},
     .answer = "",
     .has = {"[AVAILABLE_TOOLS]", "\"[INST]\"", "\"[/INST]\""}, .lacks = {"[SYSTEM_PROMPT]"},
     .tokens = {"[INST]", "[/INST]"}},
    {.name = "mistral-v7-tekken", .begin = BOS,
     .role = {{"[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"}, {"[INST]", "[/INST]"}, {"", EOS}},
     .answer = "",
     .has = {"'[SYSTEM_PROMPT]' +", "[INST]", "[/INST]"},
     .tokens = {"[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"}},
    {.name = "zephyr",
     .role = {{"<|system|>\n", EOS "\n"}, {"<|user|>\n", EOS "\n"}, {"<|assistant|>\n", EOS "\n"}},
     .answer = "<|assistant|>\n",
     .has = {"<|user|>", "<|assistant|>", "message['content'] + eos_token"},
     .lacks = {"<|end|>", "\\n' + eos_token", "<|im_start|>"}},
    {.name = "gemma", .begin = BOS, .inside = true, .trims = true,
     .role = {{"", "\n\n"}, {"<start_of_turn>user\n", "<end_of_turn>\n"},
              {"<start_of_turn>model\n", "<end_of_turn>\n"}},
     .answer = "<start_of_turn>model\n",
     .has = {"<start_of_turn>", "<end_of_turn>", "model"},
     .tokens = {"<start_of_turn>", "<end_of_turn>"}},
};
// clang-format on

struct Template {
    const Family *family;
    const char *system;  // NULL: none
    bool begins, trims;
};

// ---- which one ---------------------------------------------------------------------------------
static bool contains(TextSpan text, const char *part) {
    return memmem(text.at, text.length, part, strlen(part)) != NULL;
}

static bool is_of(const Family *family, TextSpan text) {
    bool is = true;
    for (int i = 0; i < FEW; i++) {
        if (family->has[i]) is &= contains(text, family->has[i]);
        if (family->lacks[i]) is &= !contains(text, family->lacks[i]);
    }
    return is;
}

const char *template_names(Arena *arena) {
    Text names = text_new(arena);
    for (int i = 0; i < COUNT_OF(families); i++)
        text_add(&names, "%s%s", i ? ", " : "", families[i].name);
    return names.at;
}

static const Family *find_name(const char *name, Arena *scratch) {
    for (int i = 0; i < COUNT_OF(families); i++)
        if (!strcmp(families[i].name, name)) return &families[i];
    fail("no chat template is called %.60s. There are: %s", name, template_names(scratch));
    return NULL;
}

static const Family *find_text(const char *path, TextSpan text, Arena *scratch) {
    const Family *found = NULL;
    for (int i = 0; i < COUNT_OF(families); i++) {
        if (!is_of(&families[i], text)) continue;
        if (found) {
            fail("%s: its chat template could be %s or %s. Choose with --chat-template", path,
                 found->name, families[i].name);
            return NULL;
        }
        found = &families[i];
    }
    if (!found)
        fail("%s: its chat template is none that picograd knows; it begins %.*s. Choose the one it "
             "is with --chat-template: %s",
             path, (int)min_i64((int64_t)text.length, 60), text.at, template_names(scratch));
    return found;
}

static int check_tokens(const Family *family, const Tokenizer *tokenizer, const char *path) {
    for (int i = 0; i < FEW && family->tokens[i]; i++)
        if (tokenizer_find(tokenizer, family->tokens[i]) < 0)
            return fail("%s: the chat template %s needs the token %s, which the model has not",
                        path, family->name, family->tokens[i]);
    return 0;
}

// Of ChatML: the message that the text begins with unless one is given,
//   '<|im_start|>system\nYou are ...<|im_end|>\n'   in its quotes; NULL if there is none.
static const char *own_system(Arena *arena, TextSpan text) {
    static const char begin[] = "<|im_start|>system", end[] = "<|im_end|>";
    const char *limit = text.at + text.length, *at = text.at, *last = at;
    while ((at = memmem(at, (size_t)(limit - at), begin, strlen(begin)))) {
        char quote = at > text.at ? at[-1] : 0;
        at += strlen(begin);
        if (last < at) last = memmem(at, (size_t)(limit - at), end, strlen(end));
        if (!last) return NULL;
        if ((quote != '\'' && quote != '"') || memchr(at, quote, (size_t)(last - at))) continue;
        Text message = text_new(arena);
        for (const char *from = at; from < last; from++) {
            bool newline = last - from > 1 && from[0] == '\\' && from[1] == 'n';
            text_add_bytes(&message, newline ? "\n" : from, 1);
            from += newline;
        }
        return *message.at == '\n' ? message.at + 1 : NULL;
    }
    return NULL;
}

Template *template_open(Arena *arena, const Gguf *gguf, const Tokenizer *tokenizer,
                        const char *name) {
    static const char key[] = "tokenizer.chat_template";
    TextSpan text = {"", 0};
    Arena *scratch = arena_new();
    const Family *family = name ? find_name(name, scratch) : NULL;
    bool there = gguf_find_key(gguf, key), read = !there || gguf_text(gguf, key, &text) == 0;
    if (!name && !there)
        fail("%s: the model comes without a chat template. Choose the one it was trained on with "
             "--chat-template: %s",
             gguf_path(gguf), template_names(scratch));
    else if (!name && read)
        family = find_text(gguf_path(gguf), text, scratch);
    arena_free(scratch);
    if (!family || !read || check_tokens(family, tokenizer, gguf_path(gguf)) < 0) return NULL;
    bool own = there && is_of(family, text);  // so that its text says how, too
    Template *template = arena_object(arena, Template);
    *template = (Template){family, family->system, true, family->trims};
    if (!own) return template;
    template->begins = contains(text, "bos_token");
    template->trims = family->trims && (contains(text, "trim") || contains(text, "strip"));
    if (contains(text, "<|im_start|>")) template->system = own_system(arena, text);
    return template;
}

const char *template_name(const Template *template) { return template->family->name; }
const char *template_system(const Template *template) { return template->system; }

// ---- a conversation as text --------------------------------------------------------------------
typedef struct {
    size_t at, length;  // in the text
    int32_t id;
} Cut;

typedef struct {
    const Template *template;
    const Tokenizer *tokenizer;
    Arena *scratch;
    Text text;
    LIST(Cut) cuts;  // the control tokens
} Rendering;

static void add_token(Rendering *to, int32_t id) {
    if (id < 0) return;
    TextSpan piece = tokenizer_piece(to->tokenizer, id);
    *list_add(to->scratch, &to->cuts) = (Cut){to->text.count, piece.length, id};
    text_add_bytes(&to->text, piece.at, piece.length);
}

// The token that a row's string goes on with, and how many of the string's bytes it is; 0: none.
static size_t token_at(const Rendering *to, const char *at, int32_t *id) {
    *id = *at == *BOS ? tokenizer_bos(to->tokenizer) : tokenizer_eos(to->tokenizer);
    if (*at == *BOS || *at == *EOS) return 1;
    const char *const *tokens = to->template->family->tokens;
    for (int i = 0; i < FEW && tokens[i]; i++) {
        size_t length = strlen(tokens[i]);
        if (strncmp(at, tokens[i], length)) continue;
        *id = tokenizer_find(to->tokenizer, tokens[i]);
        return length;
    }
    return 0;
}

static void add_part(Rendering *to, const char *part) {
    int32_t id;
    for (size_t length; part && *part; part += length) {
        length = token_at(to, part, &id);
        if (length) {
            add_token(to, id);
        } else {
            length = 1;
            text_add_bytes(&to->text, part, length);
        }
    }
}

static bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static void add_message(Rendering *to, const Message *message, bool trim_left) {
    const char *at = message->text, *end = at + message->length;
    while (to->template->trims && trim_left && at < end && is_blank(*at)) at++;
    while (to->template->trims && at < end && is_blank(end[-1])) end--;
    text_add_bytes(&to->text, at, (size_t)(end - at));
}

static void add_framed(Rendering *to, const Message *message) {
    const Frame *frame = &to->template->family->role[message->by];
    add_part(to, frame->before);
    add_message(to, message, true);
    add_part(to, frame->after);
}

// The system message, given or the template's own, and the first user message.
static void add_beginning(Rendering *to, const Message *system, const Message *user) {
    const Family *family = to->template->family;
    Message own = {BY_SYSTEM, to->template->system, 0};
    if (!system && own.text) {
        own.length = strlen(own.text);
        system = &own;
    }
    if (to->template->begins) add_part(to, family->begin);
    if (system && !family->inside) add_framed(to, system);
    if (!user) return;
    if (!system || !family->inside) {
        add_framed(to, user);
        return;
    }
    add_part(to, family->role[BY_USER].before);
    add_part(to, family->role[BY_SYSTEM].before);
    text_add_bytes(&to->text, system->text, system->length);
    add_part(to, family->role[BY_SYSTEM].after);
    add_message(to, user, false);
    add_part(to, family->role[BY_USER].after);
}

// What closes an answer; of a token that already ended it only that and what follows.
static void add_end(Rendering *to, int32_t ended_by) {
    add_part(to, to->template->family->role[BY_ASSISTANT].after);
    for (int32_t i = 0; i < to->cuts.count; i++) {
        Cut *cut = &to->cuts.at[i];
        if (cut->id != ended_by) continue;
        Text rest = text_new(to->scratch);
        text_add_bytes(&rest, to->text.at + cut->at, to->text.count - cut->at);
        to->text = rest;
        cut->at = 0;
        *to->cuts.at = *cut;
        to->cuts.count = 1;
        return;
    }
}

// ---- and as tokens -----------------------------------------------------------------------------
static int encode(const Rendering *from, Arena *arena, IdList *ids) {
    size_t at = 0;
    for (int32_t i = 0; i <= from->cuts.count; i++) {
        const Cut *cut = i < from->cuts.count ? &from->cuts.at[i] : NULL;
        size_t end = cut ? cut->at : from->text.count;
        if (end > at &&
            tokenizer_encode(from->tokenizer, arena, from->text.at + at, end - at, 0, ids) < 0)
            return -1;
        if (!cut) return 0;
        bool again = ids->count == 1 && i == 0 && cut->at == 0 && *ids->at == cut->id;
        if (!again)
            *list_add(arena, ids) = cut->id;  // else BOS, which the tokenizer has begun with
        at = end + cut->length;
    }
    return 0;
}

static int check_turns(const Message *messages, int64_t count, int64_t from) {
    bool system = count > 0 && messages->by == BY_SYSTEM;
    for (int64_t i = system; i < count; i++)
        if (messages[i].by != ((i - system) % 2 ? BY_ASSISTANT : BY_USER))
            return fail("a conversation is a system message, if any, then user and assistant in "
                        "turn; message %lld is not",
                        (long long)i);
    if (count == system || messages[count - 1].by != BY_USER)
        return fail("a conversation ends with what the user said, but this one does not");
    if (from != 0 && (from < 0 || from >= count || messages[from].by != BY_ASSISTANT))
        return fail("message %lld is no answer to go on from", (long long)from);
    return 0;
}

int template_encode(const Template *template, const Tokenizer *tokenizer, Arena *arena,
                    const Message *messages, int64_t count, int64_t from, int32_t ended_by,
                    IdList *ids) {
    if (check_turns(messages, count, from) < 0) return -1;
    Rendering to = {.template = template, .tokenizer = tokenizer, .scratch = arena_new()};
    to.text = text_new(to.scratch);
    int64_t next = from + 1;
    IdList bos = {0};
    int status = 0;
    if (from) {
        add_end(&to, ended_by);
    } else {
        bool system = messages->by == BY_SYSTEM;
        status = tokenizer_encode(tokenizer, to.scratch, "", 0, TOKENIZE_BOS, &bos);
        add_beginning(&to, system ? messages : NULL, &messages[system]);
        next = system + 1;
    }
    for (; next < count; next++) add_framed(&to, &messages[next]);
    add_part(&to, template->family->answer);
    IdList all = {0};
    if (bos.count) *list_add(to.scratch, &all) = *bos.at;
    if (status == 0) status = encode(&to, to.scratch, &all);
    for (int32_t i = 0; i < all.count && status == 0; i++) *list_add(arena, ids) = all.at[i];
    arena_free(to.scratch);
    return status;
}
