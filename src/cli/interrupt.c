/* interrupt.c - Ctrl-C ends what is being generated, not the program.
 * In: a signal.  Out: whether there was one, for who asks between two tokens.
 *   interrupt_catch();  while (!interrupted()) ...                                               */
#include "cli/cli.h"

#include <signal.h>

static volatile sig_atomic_t pressed;

static void on_interrupt(int number) {
    (void)number;
    pressed = 1;
}

bool interrupted(void) { return pressed; }

// The first one ends the text, the next one the process.
void interrupt_catch(void) {
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    pressed = 0;
    sigaction(SIGINT, &action, NULL);
}

// Each is noted, and none ends the process.
void interrupt_watch(void) {
    struct sigaction action = {.sa_handler = on_interrupt};
    pressed = 0;
    sigaction(SIGINT, &action, NULL);
}
