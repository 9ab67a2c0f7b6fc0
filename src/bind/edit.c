/* edit.c - lines edited on a terminal, by libedit. The library is loaded when the first editor is
 * made, so that hosts which never ask for one do not depend on it; without its header at build
 * time, or without the library at run time, there are no editors.
 *
 * Ctrl-C and Ctrl-Z are keys here: the terminal sends no signals for them while a line is edited,
 * and no signal handler is touched. Text is UTF-8 unless the locale of the environment is another
 * one; the process's locale stays as it is. */
#include "bind/bind.h"

#if defined(__has_include)
#if __has_include(<histedit.h>)
#define HAS_LIBEDIT
#endif
#endif

#ifdef HAS_LIBEDIT

#include <dlfcn.h>
#include <errno.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#define EDITOR_META "rondo.editor"
#define LIBRARY "libedit.so.2"
enum { REMEMBERED = 1000, PATIENCE = 500 }; /* lines of history; ms between looks at the window */

/* What is used of the library. */
static struct {
  __typeof__(el_init) *el_init;
  __typeof__(el_end) *el_end;
  __typeof__(el_set) *el_set;
  __typeof__(el_get) *el_get;
  __typeof__(el_gets) *el_gets;
  __typeof__(el_line) *el_line;
  __typeof__(el_insertstr) *el_insertstr;
  __typeof__(el_deletestr) *el_deletestr;
  __typeof__(el_resize) *el_resize;
  __typeof__(el_source) *el_source;
  __typeof__(history_init) *history_init;
  __typeof__(history_end) *history_end;
  __typeof__(history) *history;
} lib;

static const struct {
  const char *name;
  void *pointer;
} functions[] = {
    {"el_init", &lib.el_init},
    {"el_end", &lib.el_end},
    {"el_set", &lib.el_set},
    {"el_get", &lib.el_get},
    {"el_gets", &lib.el_gets},
    {"el_line", &lib.el_line},
    {"el_insertstr", &lib.el_insertstr},
    {"el_deletestr", &lib.el_deletestr},
    {"el_resize", &lib.el_resize},
    {"el_source", &lib.el_source},
    {"history_init", &lib.history_init},
    {"history_end", &lib.history_end},
    {"history", &lib.history},
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool is_loaded;

static void load_library(void) {
  void *handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
  if (handle == NULL) return;
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    void *function = dlsym(handle, functions[i].name);
    if (function == NULL) return;
    memcpy(functions[i].pointer, &function, sizeof function);
  }
  is_loaded = true;
}

typedef struct {
  EditLine *edit;
  History *history;
  locale_t locale;
  const char *path;   /* of the history's file, or NULL; kept alive as user value 1 */
  const char *prompt; /* while a line is read */
  lua_State *L;       /* while a line is read; at 3 the function that completes, or nil */
  unsigned short rows, columns;
  bool cancelled;
} editor;

static editor *editor_of(EditLine *edit) {
  editor *e = NULL;
  lib.el_get(edit, EL_CLIENTDATA, &e);
  return e;
}

static char *prompt_of(EditLine *edit) {
  return (char *)editor_of(edit)->prompt;
}

/* ---- Keys ---- */

static void follow_window(editor *e) {
  struct winsize window;
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) != 0) return;
  bool same = window.ws_row == e->rows && window.ws_col == e->columns;
  bool first = e->rows == 0;
  e->rows = window.ws_row;
  e->columns = window.ws_col;
  if (same || first) return;
  lib.el_resize(e->edit);
  lib.el_set(e->edit, EL_REFRESH);
}

/* Waits for a byte: 1; 0 at the end of the input; -1 when reading fails or is to stop. */
static int read_byte(editor *e, char *byte) {
  for (;;) {
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    int ready = poll(&input, 1, PATIENCE);
    if (rondo_is_stopped(e->L) || (ready < 0 && errno != EINTR)) return -1;
    follow_window(e);
    if (ready <= 0) continue;
    ssize_t count = read(STDIN_FILENO, byte, 1);
    if (count >= 0 || errno != EINTR) return (int)count;
  }
}

/* One character for libedit. Bytes that are no character are passed over. */
static int read_character(EditLine *edit, wchar_t *character) {
  mbstate_t state = {0};
  for (;;) {
    char byte;
    int count = read_byte(editor_of(edit), &byte);
    if (count != 1) return count;
    size_t used = mbrtowc(character, &byte, 1, &state);
    if (used <= 1) return 1;
    if (used == (size_t)-1) state = (mbstate_t){0};
  }
}

static unsigned char on_cancel(EditLine *edit, int key) {
  (void)key;
  editor_of(edit)->cancelled = true;
  fputs("^C\n", stdout);
  fflush(stdout);
  return CC_EOF;
}

static unsigned char on_suspend(EditLine *edit, int key) {
  (void)key;
  lib.el_set(edit, EL_PREP_TERM, 0);
  raise(SIGTSTP); /* the user's shell goes on; here it ends when the user comes back */
  lib.el_set(edit, EL_PREP_TERM, 1);
  return CC_REDISPLAY;
}

/* ---- Completion ---- */

/* complete(text before the cursor) -> start, replacement, text to show below or nil. */
static int call_complete(lua_State *L) {
  lua_pushvalue(L, 2);
  lua_pushvalue(L, 1);
  lua_call(L, 1, 3);
  luaL_checkinteger(L, -3);
  luaL_checkstring(L, -2);
  return 3;
}

static int characters_in(const char *text, size_t length) {
  int count = 0;
  for (size_t i = 0; i < length; i++) count += ((unsigned char)text[i] & 0xc0) != 0x80;
  return count;
}

static unsigned char apply_completion(EditLine *edit, lua_State *L, size_t length) {
  size_t start = (size_t)lua_tointeger(L, -3) - 1;
  const char *replacement = lua_tostring(L, -2), *below = lua_tostring(L, -1);
  const char *cursor = lib.el_line(edit)->cursor;
  if (start < length)
    lib.el_deletestr(edit, characters_in(cursor - (length - start), length - start));
  if (*replacement != '\0') lib.el_insertstr(edit, replacement);
  if (below == NULL) return CC_REFRESH;
  printf("\n%s\n", below);
  fflush(stdout);
  return CC_REDISPLAY;
}

/* libedit's frames must not be jumped over: everything that may raise runs in a protected call. */
static unsigned char on_complete(EditLine *edit, int key) {
  (void)key;
  lua_State *L = editor_of(edit)->L;
  const LineInfo *line = lib.el_line(edit);
  size_t length = (size_t)(line->cursor - line->buffer);
  int top = lua_gettop(L);
  if (lua_isnil(L, 3) || !lua_checkstack(L, 8)) return CC_ERROR;
  lua_pushcfunction(L, call_complete);
  lua_pushlstring(L, line->buffer, length);
  lua_pushvalue(L, 3);
  bool good = lua_pcall(L, 2, 3, 0) == LUA_OK && lua_tointeger(L, -3) >= 1;
  unsigned char result = good ? apply_completion(edit, L, length) : CC_ERROR;
  lua_settop(L, top);
  return result;
}

/* ---- The object ---- */

static locale_t utf8_locale(void) {
  locale_t own = newlocale(LC_CTYPE_MASK, "", (locale_t)0);
  if (own != (locale_t)0 && strcmp(nl_langinfo_l(CODESET, own), "ANSI_X3.4-1968") != 0) return own;
  locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
  if (utf8 == (locale_t)0) return own;
  if (own != (locale_t)0) freelocale(own);
  return utf8;
}

/* What libedit does in between is done in the editor's locale. */
static locale_t enter(const editor *e) {
  return e->locale != (locale_t)0 ? uselocale(e->locale) : (locale_t)0;
}

static void leave(locale_t before) {
  if (before != (locale_t)0) uselocale(before);
}

static int editor_close(lua_State *L) {
  editor *e = luaL_checkudata(L, 1, EDITOR_META);
  if (e->edit != NULL) lib.el_end(e->edit);
  if (e->history != NULL) lib.history_end(e->history);
  if (e->locale != (locale_t)0) freelocale(e->locale);
  *e = (editor){0};
  return 0;
}

static void set_up_history(editor *e) {
  HistEvent event;
  e->history = lib.history_init();
  if (e->history == NULL) return;
  lib.history(e->history, &event, H_SETSIZE, (int)REMEMBERED);
  lib.history(e->history, &event, H_SETUNIQUE, 1);
  if (e->path != NULL) lib.history(e->history, &event, H_LOAD, e->path);
  lib.el_set(e->edit, EL_HIST, lib.history, e->history);
}

static void set_up(editor *e) {
  e->edit = lib.el_init("rondo", stdin, stdout, stderr);
  if (e->edit == NULL) return;
  lib.el_set(e->edit, EL_CLIENTDATA, e);
  lib.el_set(e->edit, EL_PROMPT, prompt_of);
  lib.el_set(e->edit, EL_EDITOR, "emacs");
  lib.el_set(e->edit, EL_GETCFN, read_character);
  lib.el_set(e->edit, EL_SETTY, "-d", "-isig", NULL);
  lib.el_set(e->edit, EL_ADDFN, "rondo-complete", "Complete what is typed", on_complete);
  lib.el_set(e->edit, EL_ADDFN, "rondo-cancel", "Give up this input", on_cancel);
  lib.el_set(e->edit, EL_ADDFN, "rondo-suspend", "Stop until fg", on_suspend);
  lib.el_set(e->edit, EL_BIND, "^I", "rondo-complete", NULL);
  lib.el_set(e->edit, EL_BIND, "^C", "rondo-cancel", NULL);
  lib.el_set(e->edit, EL_BIND, "^Z", "rondo-suspend", NULL);
  lib.el_set(e->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
  set_up_history(e);
  lib.el_source(e->edit, NULL); /* the user's ~/.editrc has the last word */
}

/* editor([file]) -> an editor of lines on the terminal of the standard streams, with the history
 * that the file keeps; or nil and the reason. */
static int make_editor(lua_State *L) {
  const char *path = lua_isnoneornil(L, 1) ? NULL : rondo_check_path(L, 1, RONDO_WRITE);
  lua_settop(L, 1);
  pthread_once(&once, load_library);
  if (!is_loaded) {
    lua_pushnil(L);
    lua_pushliteral(L, LIBRARY " is not there");
    return 2;
  }
  editor *e = lua_newuserdatauv(L, sizeof *e, 1);
  *e = (editor){.path = path};
  luaL_setmetatable(L, EDITOR_META);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  e->locale = utf8_locale();
  locale_t before = enter(e);
  set_up(e);
  leave(before);
  if (e->edit == NULL) return luaL_error(L, "the terminal cannot be set up");
  return 1;
}

static void remember(const editor *e, const char *line) {
  HistEvent event;
  if (e->history == NULL || line[strspn(line, " \t\n")] == '\0') return;
  lib.history(e->history, &event, H_ENTER, line);
  if (e->path != NULL) lib.history(e->history, &event, H_SAVE, e->path);
}

/* editor:read(prompt [, complete]) -> a line; nil at the end of the input; nil and true when the
 * user has given the line up. complete(text before the cursor) -> from which byte on it is to be
 * replaced, by what, and a text to show below, or nil. */
static int editor_read(lua_State *L) {
  editor *e = luaL_checkudata(L, 1, EDITOR_META);
  e->prompt = luaL_checkstring(L, 2);
  luaL_argcheck(L, e->edit != NULL && e->L == NULL, 1, "the editor is in use");
  lua_settop(L, 3);
  e->L = L;
  e->cancelled = false;
  int length = 0;
  locale_t before = enter(e);
  follow_window(e);
  lib.el_set(e->edit, EL_PREP_TERM, 1); /* before the prompt is there, keys are keys */
  const char *line = lib.el_gets(e->edit, &length);
  if (line != NULL && length > 0) remember(e, line);
  leave(before);
  e->L = NULL;
  if (line == NULL || length <= 0) {
    lua_pushnil(L);
    lua_pushboolean(L, e->cancelled);
    return 2;
  }
  lua_pushlstring(L, line, (size_t)length - (line[length - 1] == '\n'));
  return 1;
}

void rondo_open_edit(lua_State *L) {
  static const luaL_Reg methods[] = {{"read", editor_read}, {NULL, NULL}};
  luaL_newmetatable(L, EDITOR_META);
  lua_pushcfunction(L, editor_close);
  lua_setfield(L, -2, "__gc");
  lua_pushliteral(L, "locked");
  lua_setfield(L, -2, "__metatable");
  luaL_newlib(L, methods);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  lua_pushcfunction(L, make_editor);
  lua_setfield(L, -2, "editor");
}

#else

/* editor() -> nil and the reason. */
static int make_editor(lua_State *L) {
  lua_pushnil(L);
  lua_pushliteral(L, "built without libedit");
  return 2;
}

void rondo_open_edit(lua_State *L) {
  lua_pushcfunction(L, make_editor);
  lua_setfield(L, -2, "editor");
}

#endif
