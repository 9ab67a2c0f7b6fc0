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
  r->error.place = r->error.witnessed = (rondo_place){"", 0};
  r->error.tensor[0] = r->error.words[0] = '\0';
}

/* The innermost function of a script, rather than of rondo's own Lua half; false without one. */
static bool find_script(lua_State *L, lua_Debug *ar) {
  for (int level = 1; level < MOST_LEVELS && lua_getstack(L, level, ar); level++) {
    lua_getinfo(L, "Sl", ar);
    bool own = strcmp(ar->source, "=[C]") == 0 || strncmp(ar->source, "@rondo/", 7) == 0;
    if (!own && ar->currentline > 0) return true;
  }
  return false;
}

static void find_place(lua_State *L, rondo_place *place) {
  lua_Debug ar;
  if (!find_script(L, &ar) || ar.source[0] != '@') return;
  copy_part(place->file, sizeof place->file, ar.source + 1, strchr(ar.source, '\0'));
  place->line = ar.currentline;
}

void rondo_push_place(lua_State *L) {
  lua_Debug ar;
  if (find_script(L, &ar))
    lua_pushfstring(L, "%s:%d: ", ar.short_src, ar.currentline);
  else
    lua_pushliteral(L, "");
}

/* The end of a text that is told on in other words, as much of it as fits. */
static const char *last_words(const rondo *r, const char *text) {
  size_t length = strlen(text), most = sizeof r->error.words - 1;
  return length > most ? text + length - most : text;
}

int rondo_witness(lua_State *L) {
  rondo *r = rondo_host_of(L);
  if (lua_type(L, 1) == LUA_TSTRING) {
    r->error.witnessed = (rondo_place){"", 0};
    find_place(L, &r->error.witnessed);
    strcpy(r->error.words, last_words(r, lua_tostring(L, 1)));
  }
  lua_settop(L, 1);
  return 1;
}

void rondo_record_place(lua_State *L, const char *message) {
  rondo *r = rondo_host_of(L);
  size_t length = strlen(message), known = strlen(r->error.words);
  bool witnessed =
      known > 0 && known <= length && strcmp(message + length - known, r->error.words) == 0;
  if (witnessed)
    r->error.place = r->error.witnessed;
  else
    find_place(L, &r->error.place);
}

void rondo_record_chunk(rondo *r, const char *path, const char *message) {
  rondo_place *place = &r->error.place;
  copy_part(place->file, sizeof place->file, path, strchr(path, '\0'));
  const char *line = strrchr(path, '/');
  line = strstr(message, line != NULL ? line + 1 : path);
  line = line != NULL ? strchr(line, ':') : NULL;
  if (line != NULL) place->line = atoi(line + 1);
}

/* Messages about a file begin with it, or with what could not be done to it: "a.safetensors: not
 * ...", "cannot read a.json: ...". */
static void find_file(rondo *r, rondo_status status) {
  bool about_file = status == RONDO_IO || status == RONDO_FORMAT || status == RONDO_CHANGED;
  const char *text = r->message, *end = strstr(text, ": ");
  if (!about_file || end == NULL || r->error.place.file[0] != '\0') return;
  for (const char *verb = "cannot "; strncmp(text, verb, strlen(verb)) == 0;) {
    const char *object = strchr(text + strlen(verb), ' ');
    if (object == NULL || object > end) return;
    text = object + 1;
  }
  copy_part(r->error.place.file, sizeof r->error.place.file, text, end);
}

/* "clip grid: NAME (rule ...": a tensor and what decides about it. */
static void find_ruled_tensor(rondo *r) {
  const char *end = strstr(r->message, " (rule "), *begin = end;
  if (end == NULL) return;
  while (begin > r->message && begin[-1] != ' ') begin--;
  copy_part(r->error.tensor, sizeof r->error.tensor, begin, end);
}

/* Messages put the names of tensors in quotes, or the rule behind them. */
static void find_tensor(rondo *r) {
  static const char *const openings[] = {"tensor \"", "tensor '"};
  for (size_t i = 0; i < sizeof openings / sizeof *openings; i++) {
    const char *found = strstr(r->message, openings[i]);
    if (found == NULL) continue;
    const char *name = found + strlen(openings[i]), *end = strchr(name, name[-1]);
    if (end != NULL) copy_part(r->error.tensor, sizeof r->error.tensor, name, end);
    return;
  }
  find_ruled_tensor(r);
}

const rondo_error_record *rondo_last_error(rondo *r) {
  static const rondo_error_record none = {RONDO_MEMORY, "memory", "not enough memory", "", 0, ""};
  if (r == NULL) return &none;
  if (r->reported != RONDO_OK) {
    find_file(r, r->reported);
    find_tensor(r);
  }
  r->error.record = (rondo_error_record){r->reported,         rondo_status_name(r->reported),
                                         r->message,          r->error.place.file,
                                         r->error.place.line, r->error.tensor};
  return &r->error.record;
}
