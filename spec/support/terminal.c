/* terminal.c - a terminal for specs: runs a program on a pseudo-terminal of 80 columns and 24
 * lines, and types to it what a script says.
 *
 *   terminal SCRIPT PROGRAM [ARGUMENT...]
 *
 * Each line of the script is a letter, a blank and a text with the escapes \n \t \\ \xNN:
 *   s TEXT   sends it
 *   e TEXT   waits until the program has written it, behind what was waited for before
 *   p MS     pauses
 *   k NAME   sends the signal TERM to the program
 * Afterwards the input stays open until the program ends. Prints all that the program wrote; the
 * exit code is that of the program, 128 and the signal it died of, or 99 where it did not write
 * what was waited for, or did not end, in a minute. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MINUTE = 60000, ROOM = 1 << 20 };

static char output[ROOM + 1];
static size_t written, seen;
static int terminal;
static pid_t child;

static long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Reads what comes within ms; false at the end of the output. */
static int receive(int ms) {
  struct pollfd input = {.fd = terminal, .events = POLLIN};
  if (poll(&input, 1, ms) <= 0) return 1;
  ssize_t count = read(terminal, output + written, ROOM - written);
  if (count <= 0) return 0;
  written += (size_t)count;
  output[written] = '\0';
  return 1;
}

static void finish(int code) {
  fwrite(output, 1, written, stdout);
  fflush(stdout);
  if (code == 99) kill(child, SIGKILL);
  exit(code);
}

static void expect(const char *text) {
  long end = now() + MINUTE;
  for (;;) {
    char *found = strstr(output + seen, text);
    if (found != NULL) {
      seen = (size_t)(found - output) + strlen(text);
      return;
    }
    if (now() > end || !receive(100)) {
      printf("[not seen: %s]\n", text);
      finish(99);
    }
  }
}

static void pause_for(long ms) {
  for (long end = now() + ms; now() < end;) receive((int)(end - now()));
}

static void unescape(char *text) {
  char *to = text;
  for (; *text != '\0'; text++) {
    if (*text != '\\') {
      *to++ = *text;
      continue;
    }
    text++;
    unsigned byte = (unsigned char)*text;
    if (*text == 'n') byte = '\n';
    if (*text == 't') byte = '\t';
    if (*text == 'x' && sscanf(text + 1, "%2x", &byte) == 1) text += 2;
    *to++ = (char)byte;
  }
  *to = '\0';
}

static void run_line(char *line) {
  line[strcspn(line, "\n")] = '\0';
  if (strlen(line) < 2) return;
  char *text = line + 2;
  unescape(text);
  if (*line == 's' && write(terminal, text, strlen(text)) < 0) finish(99);
  if (*line == 'e') expect(text);
  if (*line == 'p') pause_for(atol(text));
  if (*line == 'k') kill(child, SIGTERM);
}

int main(int argc, char **argv) {
  char line[4096];
  struct winsize size = {.ws_row = 24, .ws_col = 80};
  FILE *script = argc > 2 ? fopen(argv[1], "r") : NULL;
  if (script == NULL) return 99;
  child = forkpty(&terminal, NULL, NULL, &size);
  if (child < 0) return 99;
  if (child == 0) {
    execvp(argv[2], argv + 2);
    _exit(127);
  }
  while (fgets(line, sizeof line, script) != NULL) run_line(line);
  for (long end = now() + MINUTE; now() < end && receive(100);) {
  }
  int status = 0;
  if (waitpid(child, &status, WNOHANG) == 0) {
    usleep(500000);
    if (waitpid(child, &status, WNOHANG) == 0) finish(99);
  }
  finish(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}
