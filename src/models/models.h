/* models.h - the models, each one file of eager tensor code. */
#ifndef PICOGRAD_MODELS_H
#define PICOGRAD_MODELS_H
#include "io/io.h"
#include "picograd.h"

// ---- llama.c -----------------------------------------------------------------------------------
typedef struct {
    int64_t layers, width, hidden, heads, key_heads, head_size, vocabulary;
    int64_t sequences;    // that run in step, each with a cache of its own
    int64_t context;      // positions that a cache has room for
    int64_t trained;      // positions that the model was trained on
    double epsilon;       // of the RMS norms
    int64_t window;       // positions that a token looks back at, itself included; 0: all
    int64_t window_from;  // the first layer with that window
    int64_t rope_size;    // leading part of a head that is rotated
    bool rope_halves;     // pairs are (i, i + rope_size / 2), else (2i, 2i + 1)
    double rope_base;
    double rope_factor;  // linear or YaRN: positions are stretched by this
    bool rope_yarn;
    int64_t rope_original;  // YaRN: positions before stretching
    double rope_fast, rope_slow, rope_attention;
} LlamaConfig;
typedef struct Llama Llama;
// The weights stay in the file's pages, so the file must stay open as long as the model. context 0
// is min(4096, trained). NULL with error_text() if the file is no llama model, or if a tensor is
// missing or of the wrong shape. A model may be used by one thread at a time.
Llama *llama_open(const Gguf *gguf, int64_t context, int64_t sequences);
// Random weights in the shape of a model: they run at its speed and say nothing. context as above.
typedef struct {
    const char *name, *about;  // "random:1b"; a line for a list
    int type, embedding;       // formats of matrices and of the embedding: GGUF_Q4_1, Q8_0, BF16
    LlamaConfig config;        // without context and sequences
} RandomModel;
extern const RandomModel random_models[];  // llama_random.c
extern const int random_model_count;
const RandomModel *random_model_find(const char *name);  // NULL: none of them
Llama *llama_random(const RandomModel *of, int64_t context, int64_t sequences, uint64_t seed);
void llama_close(Llama *llama);  // NULL is allowed
const LlamaConfig *llama_config(const Llama *llama);
int64_t llama_position(const Llama *llama);         // tokens in the cache
void llama_rewind(Llama *llama, int64_t position);  // forgets what came after
int llama_traces(const Llama *llama);               // how often a step was traced and compiled
int64_t llama_weight_bytes(const Llama *llama);
int64_t llama_cache_bytes(const Llama *llama);  // of the cache blocks in use
// Empties the cache. The first padding[i] tokens that sequence i is then given count for nothing,
// so that texts of different length end together.
void llama_begin(Llama *llama, const int64_t *padding);
// Appends `count` tokens to each sequence: ids (sequences, count). logits (sequences, vocabulary),
// if not NULL, gets those after the last token; all_logits (count, vocabulary), if not NULL, those
// after each, of a single sequence. -1 if the context is full, an id is out of range, or the
// compiler failed.
int llama_forward(Llama *llama, const int32_t *ids, int64_t count, float *logits,
                  float *all_logits);
// llama_state.c
// Forgets the `count` tokens after the first `keep`: those behind move up, as if they had come
// right after. What they took from the forgotten ones stays in them.
void llama_shift(Llama *llama, int64_t keep, int64_t count);
// The cache in a file, with its tokens (as many as llama_position) and what else the caller wants
// to find again. -1 with error_text(); the file is whole or not there.
int llama_save(const Llama *llama, const char *path, const int32_t *ids, TextSpan extra);
// -1 with error_text(), and nothing has changed, if the file is damaged, of another model or does
// not fit the context. ids and extra are made in the arena.
int llama_restore(Llama *llama, const char *path, Arena *arena, IdList *ids, TextSpan *extra);

// ---- sampler.c: its head comment has the order -------------------------------------------------
typedef struct {
    int32_t id;
    float add;  // -infinity: never
} LogitBias;
typedef struct SamplerRoom SamplerRoom;
typedef struct {
    double temperature;                          // 0: the most likely token
    int64_t top_k;                               // 0: all
    double typical_p, top_p, min_p;              // 1, 1 and 0: all
    int64_t mirostat;                            // 0: none; 2: instead of top_k to min_p
    double mirostat_tau, mirostat_eta;           // the surprise to aim at, in bits; how fast
    double repeat_penalty;                       // 1: none
    double frequency_penalty, presence_penalty;  // 0: none; subtracted for each time, and once
    int64_t repeat_last;                         // tokens that penalties look back at; -1: all
    const LogitBias *bias;                       // added to logits
    int64_t biases;
    uint64_t state;     // starts as the seed
    double correction;  // of mirostat so far; starts as 0
    SamplerRoom *room;  // starts as NULL
} Sampler;
// llama.cpp's defaults.
#define SAMPLER_DEFAULTS                                                           \
    .temperature = 0.8, .top_k = 40, .typical_p = 1, .top_p = 0.95, .min_p = 0.05, \
    .mirostat_tau = 5, .mirostat_eta = 0.1, .repeat_penalty = 1, .repeat_last = 64
// -1 with a message where a value is out of range, or a bias is of no token.
int sampler_check(const Sampler *sampler, int64_t vocabulary);
// Changes logits. history: the prompt and what was generated so far. Allocates on its first call.
int32_t sampler_next(Sampler *sampler, float *logits, int64_t vocabulary, const int32_t *history,
                     int64_t count);
void sampler_free(Sampler *sampler);  // it may be used again; a used one is not to be copied
// What sampler_next would draw from, in the order of ids; until the next call.
typedef struct {
    int32_t id;
    float logit;    // after bias and penalties
    double chance;  // they sum to 1
    double score;   // scratch
} SamplerChoice;
const SamplerChoice *sampler_choices(Sampler *sampler, float *logits, int64_t vocabulary,
                                     const int32_t *history, int64_t count, int64_t *choices);

// ---- generation.c ------------------------------------------------------------------------------
typedef enum {
    GENERATION_GOES_ON,
    GENERATION_END,        // the model ended the text: end_id says by which token
    GENERATION_STOP,       // the stop text came up
    GENERATION_COUNT,      // as many tokens as were asked for
    GENERATION_FULL,       // the context is full
    GENERATION_CANCELLED,  // a callback said so
} GenerationEnd;
enum { GENERATION_GUESS = 7 };
typedef struct {
    Sampler *sampler;
    int64_t count;     // tokens at most; -1: until the text ends or the context is full
    const char *stop;  // ends before this text; NULL: none
    bool shift;        // when the context is full: forget the older half, and go on
    int64_t keep;      // of it, the first tokens that stay
    bool lookup;  // prompt lookup: the same tokens, in fewer steps where the text repeats itself
    // Each token, with the text that can be shown now; at the end, with id -1, what was held back.
    // False ends the run.
    bool (*show)(void *context, int32_t id, TextSpan text);
    bool (*reading)(void *context, int64_t done, int64_t count);  // before each piece of the prompt
    void *context;
} GenerationHow;
typedef struct {
    GenerationEnd end;
    int32_t end_id;                 // -1 but for GENERATION_END; it is not in history
    int64_t prompt_count;           // tokens that were read before the first was chosen
    int64_t count;                  // tokens chosen
    int64_t steps;                  // of the model after the prompt
    int64_t guessed;                // tokens that lookup had right
    int64_t forgotten;              // tokens, as the context was full
    TextSpan text;                  // what was shown; until the next run
    double start;                   // clock
    double first_seconds, seconds;  // from the start to the first token, and to the last
    double prompt_compile_seconds, compile_seconds;
    double *interval;  // seconds between tokens, count - 1 of them; until the next run
} GenerationResult;
typedef struct Generation Generation;
// Without a tokenizer tokens are shown as letters. One for a Llama, whose cache it empties.
Generation *generation_new(Llama *llama, const Tokenizer *tokenizer);
void generation_free(Generation *generation);  // NULL is allowed; the Llama stays open
// All tokens so far; the cache may be behind by those added since, and by the last one chosen.
const IdList *generation_history(const Generation *generation);
void generation_add(Generation *generation, const int32_t *ids, int64_t count);
void generation_rewind(Generation *generation, int64_t count);  // keeps the first `count` tokens
// Reads what was added, then chooses tokens. -1 with error_text(); *result is filled in either way.
int generation_run(Generation *generation, const GenerationHow *how, GenerationResult *result);
// As llama_save and llama_restore; tokens that the cache does not hold yet are not saved.
int generation_save(const Generation *generation, const char *path, TextSpan extra);
int generation_restore(Generation *generation, const char *path, Arena *arena, TextSpan *extra);
TextSpan generation_piece(const Tokenizer *tokenizer, int32_t id);

// ---- template.c --------------------------------------------------------------------------------
typedef enum { BY_SYSTEM, BY_USER, BY_ASSISTANT } Speaker;
typedef struct {
    Speaker by;
    const char *text;
    size_t length;
} Message;
typedef struct Template Template;
// The one of this name, or (NULL) the one that the model's file has the text of. NULL with
// error_text() if the file's is none of those known, or if the model lacks its tokens.
Template *template_open(Arena *arena, const Gguf *gguf, const Tokenizer *tokenizer,
                        const char *name);
const char *template_name(const Template *template);
const char *template_system(const Template *template);  // the message used if none is given; NULL
const char *template_names(Arena *arena);               // "chatml, llama2, ..."
// Appends the ids of a conversation, which ends with what the user said, up to where the answer
// begins. from > 0: only what follows the text of message `from`, an answer that ended by itself
// with the token ended_by (and this token), or did not (-1). -1 with error_text() if the roles do
// not take turns.
int template_encode(const Template *template, const Tokenizer *tokenizer, Arena *arena,
                    const Message *messages, int64_t count, int64_t from, int32_t ended_by,
                    IdList *ids);

// ---- model.c: besides the model layer of picograd.h --------------------------------------------
typedef struct {
    Gguf *gguf;
    Tokenizer *tokenizer;
    Llama *llama;  // NULL without weights
} ModelFiles;
// By a name or a path. -1 with error_text(); what was opened before is to be closed in either case.
// With ids, which need no tokenizer, there may be none: a line says why.
int model_open_files(ModelFiles *files, const char *name, bool ids, bool with_weights,
                     int64_t context, int64_t sequences);
void model_close_files(ModelFiles *files);

// ---- conversation.c ----------------------------------------------------------------------------
typedef struct Conversation Conversation;
// Over the cache of this Llama, which nothing else is to use meanwhile. Empty.
Conversation *conversation_new(Llama *llama, const Tokenizer *tokenizer, const Template *template);
void conversation_free(Conversation *conversation);  // NULL is allowed; the Llama stays open
// Anew, with a system message; NULL: the template's own, if any.
void conversation_begin(Conversation *conversation, const char *system);
// Answers; how->keep is set here. A message without an answer (result->count is 0, and it did not
// end by itself) is taken back, and so it is where -1 comes, with error_text().
int conversation_say(Conversation *conversation, const char *text, size_t length,
                     const GenerationHow *how, GenerationResult *result);
int conversation_again(Conversation *conversation, const GenerationHow *how,
                       GenerationResult *result);    // another answer instead of the last
bool conversation_undo(Conversation *conversation);  // the last message and its answer; false: none
const IdList *conversation_history(const Conversation *conversation);  // all tokens so far
const Message *conversation_message(const Conversation *conversation, int64_t i);  // NULL: no more
// With the cache, so that nothing is read again, and with the state of the draws. -1 with
// error_text(); where a file has this model's cache but no right conversation, one begins anew.
int conversation_save(const Conversation *conversation, const char *path, const Sampler *sampler);
int conversation_load(Conversation *conversation, const char *path, Sampler *sampler);
#endif
