/* record.c - the pieces of an error: where in a script it arose, which file and tensor a message
 * names. */
#include "host/host.h"

#include "core/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_LEVELS = 64 }; /* of the stack that are looked at */

/* From `begin` up to `end`, shortened to what fits. */
static void copy_part(char *to, size_t size, const char *begin, const char *end) {
  size_t length = (size_t)(end - begin);
  if (length >= size) length = size - 1;
  memcpy(to, begin, length);
  to[length] = '\0';
}

void rondo_clear_record(rondo *r) {
  r->error.file[0] = r->error.tensor[0] = '\0';
  r->error.line = 0;
}

/* The innermost function of a script, rather than of rondo's own Lua half. */
void rondo_record_place(lua_State *L) {
  rondo *r = rondo_host_of(L);
  lua_Debug ar;
  for (int level = 1; level < MOST_LEVELS && lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "Sl", &ar);
    bool script = ar.source[0] == '@' && strncmp(ar.source, "@rondo/", 7) != 0;
    if (!script || ar.currentline <= 0) continue;
    copy_part(r->error.file, sizeof r->error.file, ar.source + 1, strchr(ar.source, '\0'));
    r->error.line = ar.currentline;
    return;
  }
}

void rondo_record_chunk(rondo *r, const char *path, const char *message) {
  copy_part(r->error.file, sizeof r->error.file, path, strchr(path, '\0'));
  const char *line = strrchr(path, '/');
  line = strstr(message, line != NULL ? line + 1 : path);
  line = line != NULL ? strchr(line, ':') : NULL;
  if (line != NULL) r->error.line = atoi(line + 1);
}

/* Messages about a file begin with it, or with what could not be done to it: "a.safetensors: not
 * ...", "cannot read a.json: ...". */
static void find_file(rondo *r, rondo_status status) {
  bool about_file = status == RONDO_IO || status == RONDO_FORMAT || status == RONDO_CHANGED;
  const char *text = r->message, *end = strstr(text, ": ");
  if (!about_file || end == NULL || r->error.file[0] != '\0') return;
  for (const char *verb = "cannot "; strncmp(text, verb, strlen(verb)) == 0;) {
    const char *object = strchr(text + strlen(verb), ' ');
    if (object == NULL || object > end) return;
    text = object + 1;
  }
  copy_part(r->error.file, sizeof r->error.file, text, end);
}

/* Messages put the names of tensors in quotes. */
static void find_tensor(rondo *r) {
  static const char *const openings[] = {"tensor \"", "tensor '"};
  for (size_t i = 0; i < sizeof openings / sizeof *openings; i++) {
    const char *found = strstr(r->message, openings[i]);
    if (found == NULL) continue;
    const char *name = found + strlen(openings[i]), *end = strchr(name, name[-1]);
    if (end != NULL) copy_part(r->error.tensor, sizeof r->error.tensor, name, end);
    return;
  }
}

const rondo_error_record *rondo_last_error(rondo *r) {
  static const rondo_error_record none = {RONDO_MEMORY, "memory", "not enough memory", "", 0, ""};
  if (r == NULL) return &none;
  if (r->reported != RONDO_OK) {
    find_file(r, r->reported);
    find_tensor(r);
  }
  r->error.record = (rondo_error_record){r->reported,   rondo_status_name(r->reported),
                                         r->message,    r->error.file,
                                         r->error.line, r->error.tensor};
  return &r->error.record;
}
