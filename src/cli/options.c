/* options.c - the command line, read by a table.
 * In: words, a row an option.  Out: variables set, and the words that are no options.
 * Invariant: a wrong word is named, with what would have been right.
 *   {"--temp", NULL, OPTION_NUMBER, &temperature, 0, 100, "T", "..."}  reads --temp 0.8 */
#include "cli/cli.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- words that are nearly right ---------------------------------------------------------------
// Levenshtein's distance, of words up to 31 letters.
static int distance(const char *a, const char *b) {
    enum { LONGEST = 32 };
    int row[LONGEST], length = (int)strlen(b);
    if (strlen(a) >= LONGEST || length >= LONGEST) return LONGEST;
    for (int j = 0; j <= length; j++) row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int corner = row[0];
        row[0] = i;
        for (int j = 1; j <= length; j++) {
            int other = corner + (a[i - 1] != b[j - 1]);
            corner = row[j];
            row[j] = (int)min_i64(other, min_i64(row[j], row[j - 1]) + 1);
        }
    }
    return row[length];
}

const char *closest_name(const char *word, const void *table, int count, NameAt *name) {
    const char *best = NULL;
    int nearest = 3;  // two letters wrong
    for (int i = 0; i < count; i++) {
        int far = distance(word, name(table, i));
        if (far >= nearest || far >= (int)strlen(word)) continue;
        nearest = far;
        best = name(table, i);
    }
    return best;
}

static const char *option_name(const void *table, int i) { return ((const Option *)table)[i].name; }

// ---- reading -----------------------------------------------------------------------------------
static int wrong(const char *command, const char *format, ...) PRINTF(2, 3);

static int wrong(const char *command, const char *format, ...) {
    char what[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    usage_wrong("%s: %s Try: picograd %s --help", command, what, command);
    return -1;
}

static int unknown(const char *command, const Option *option, int options, const char *word) {
    char name[64];
    size_t length = strncmp(word, "--", 2) ? strlen(word) : strcspn(word, "=");
    snprintf(name, sizeof name, "%.*s", (int)min_i64((int64_t)length, 60), word);
    const char *near = closest_name(name, option, options, option_name);
    if (near) return wrong(command, "no option %s; did you mean %s?", name, near);
    return wrong(command, "no option %s.", name);
}

// name: the option as it was written, -n or --predict
static int set_number(const char *command, const Option *option, const char *name,
                      const char *text) {
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    bool right = *text && !*end && !errno && value >= option->low && value <= option->high;
    if (!right || (option->kind == OPTION_INT && value != floor(value)))
        return wrong(command, "%.*s takes %s from %.16g to %.16g, not %.60s.",
                     (int)strcspn(name, "="), name,
                     option->kind == OPTION_INT ? "an integer" : "a number", option->low,
                     option->high, *text ? text : "an empty text");
    if (option->kind == OPTION_INT)
        *(int64_t *)option->to = (int64_t)value;
    else
        *(double *)option->to = value;
    return 0;
}

// The row that a word names; *value is what follows an `=` in it.
static const Option *find_option(const Option *option, int options, const char *word,
                                 const char **value) {
    size_t length = strcspn(word, "=");
    *value = word[length] && !strncmp(word, "--", 2) ? word + length + 1 : NULL;
    for (int i = 0; i < options; i++) {
        if (option[i].letter && !strcmp(option[i].letter, word)) return &option[i];
        if (strlen(option[i].name) == length && !strncmp(option[i].name, word, length))
            return &option[i];
    }
    return NULL;
}

static int set_value(const char *command, const Option *option, const char *word,
                     const char *value) {
    OptionTexts *texts = option->to;
    if (option->kind == OPTION_INT || option->kind == OPTION_NUMBER)
        return set_number(command, option, word, value);
    if (option->kind == OPTION_TEXT) {
        *(const char **)option->to = value;
        return 0;
    }
    if (texts->count == OPTION_TEXTS_MAX)
        return wrong(command, "%s is given more than %d times.", option->name, OPTION_TEXTS_MAX);
    texts->at[texts->count++] = value;
    return 0;
}

int options_parse(const char *command, const Option *option, int options, int count,
                  char **argument, int rest_max, const char **rest, int *rests) {
    *rests = 0;
    for (int i = 0; i < count; i++) {
        const char *word = argument[i], *value;
        if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
            help_of_options(command, option, options);
            return 1;
        }
        if (word[0] != '-' || !word[1]) {
            if (*rests == rest_max) return wrong(command, "what is '%.100s' for?", word);
            rest[(*rests)++] = word;
            continue;
        }
        const Option *found = find_option(option, options, word, &value);
        if (!found) return unknown(command, option, options, word);
        if (found->kind == OPTION_FLAG) {
            if (value) return wrong(command, "%s takes no value.", found->name);
            *(bool *)found->to = true;
            continue;
        }
        if (!value && ++i == count) return wrong(command, "%s needs a value.", word);
        if (!value) value = argument[i];
        if (set_value(command, found, word, value) < 0) return -1;
    }
    return 0;
}
