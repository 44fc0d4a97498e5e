/* error.c - two ways to fail.
 * Misuse is fatal: it stops the thread, back to the innermost try_call or out of the process.
 * The outside world (files, memory maps, compilers, devices) fails: -1, and error_text() says why.
 * Invariant: a message is its thread's own, complete before anything jumps, and allocates nothing.
 *   if (!file) return fail("cannot open %s: %s", path, strerror(errno));                         */
#include "base/base.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local struct {
    char message[ERROR_SIZE];
    const char *file;  // the user's call site, NULL if unknown
    int line;
    jmp_buf *innermost;  // where the next fatal goes; NULL outside try_call
} self;

static void (*_Atomic hook)(const char *message);

void here(const char *file, int line) {
    self.file = file;
    self.line = line;
}

void fatal_again(const char *message) {
    memmove(self.message, message, strnlen(message, ERROR_SIZE - 1) + 1);
    self.message[ERROR_SIZE - 1] = 0;
    self.file = NULL;
    if (self.innermost) longjmp(*self.innermost, 1);
    void (*told)(const char *) = hook;
    if (told) told(self.message);
    say("%s", self.message);
    exit(1);
}

// Arguments may point into the old message, so the new one is made beside it.
void fatal(const char *format, ...) {
    char message[ERROR_SIZE];
    int place = self.file ? snprintf(message, sizeof message, "%s:%d: ", self.file, self.line) : 0;
    size_t used = (size_t)min_i64(max_i64(place, 0), sizeof message - 1);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message + used, sizeof message - used, format, arguments);
    va_end(arguments);
    fatal_again(message);
}

int fail(const char *format, ...) {
    char message[ERROR_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    for (char *at = message; *at; at++)  // texts from files stay on the line
        if ((unsigned char)*at < ' ' || *at == 0x7f) *at = '?';
    memcpy(self.message, message, sizeof message);
    return -1;
}

const char *error_text(void) { return self.message; }

int try_call(void (*function)(void *), void *argument) {
    jmp_buf place, *outer = self.innermost;
    int stopped = setjmp(place);
    if (!stopped) {
        self.innermost = &place;
        function(argument);
    }
    self.innermost = outer;
    return stopped ? -1 : 0;
}

int try_privately(void (*function)(void *), void *argument) {
    const char *file = self.file;
    self.file = NULL;
    int stopped = try_call(function, argument);
    self.file = file;
    return stopped;
}

void fatal_hook(void (*told)(const char *message)) { hook = told; }

void say(const char *format, ...) {
    char message[ERROR_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    fprintf(stderr, "picograd: %s\n", message);
}
