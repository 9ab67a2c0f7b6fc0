/* match.c - string.find, match, gmatch, gsub and rep for states without trust.
 *
 * They do what Lua's own do, with the same patterns (section 6.4.1 of Lua's manual), but charge for
 * every step of matching: a pattern that tries too many ways ends as an endless loop does, while
 * Lua's own cannot be stopped. No more than MOST_NESTED parts of a pattern may depend on one
 * another, so that the C stack is safe. */
#include "host/host.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum {
  MOST_CAPTURES = 32,
  MOST_NESTED = 200,
  CHARGED_AT_ONCE = 256, /* steps of matching */
  COMPARED_PER_STEP = 16 /* bytes */
};

enum { OPEN = -1, POSITION = -2 }; /* lengths of captures that have no text (yet) */

typedef struct {
  lua_State *L;
  const char *subject, *end; /* the text */
  const char *pattern_end;
  int captures, nested, steps;
  struct {
    const char *start;
    ptrdiff_t length;
  } capture[MOST_CAPTURES];
} matcher;

static const char *match_from(matcher *m, const char *s, const char *p);

static void count_steps(matcher *m, size_t steps) {
  m->steps += steps < CHARGED_AT_ONCE ? (int)steps : CHARGED_AT_ONCE;
  if (m->steps < CHARGED_AT_ONCE) return;
  m->steps = 0;
  rondo_charge(m->L, CHARGED_AT_ONCE + steps);
}

/* ---- Single characters ---- */

/* Behind the closing bracket of the set that begins at p. */
static const char *set_end(const matcher *m, const char *p) {
  p++;
  if (p < m->pattern_end && *p == '^') p++;
  bool first = true; /* a bracket that comes first is one of the set */
  while (p < m->pattern_end && (first || *p != ']')) {
    first = false;
    p += *p == '%' ? 2 : 1;
  }
  if (p >= m->pattern_end) luaL_error(m->L, "malformed pattern (missing ']')");
  return p + 1;
}

/* Behind the single character, class or set at p. */
static const char *item_end(const matcher *m, const char *p) {
  if (*p == '[') return set_end(m, p);
  if (*p != '%') return p + 1;
  if (p + 1 >= m->pattern_end) luaL_error(m->L, "malformed pattern (ends with '%%')");
  return p + 2;
}

static int is_nul(int c) {
  return c == '\0';
}

static bool in_class(int c, int letter) {
  static const struct {
    char letter;
    int (*holds)(int);
  } classes[] = {{'a', isalpha}, {'c', iscntrl},  {'d', isdigit}, {'g', isgraph},
                 {'l', islower}, {'p', ispunct},  {'s', isspace}, {'u', isupper},
                 {'w', isalnum}, {'x', isxdigit}, {'z', is_nul}};
  for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
    if (classes[i].letter == letter) return classes[i].holds(c) != 0;
    if (toupper(classes[i].letter) == letter) return classes[i].holds(c) == 0;
  }
  return letter == c;
}

/* Whether c is in the set from p, its opening bracket, to end, behind its closing one. */
static bool in_set(int c, const char *p, const char *end) {
  bool wanted = p[1] != '^';
  for (p += wanted ? 1 : 2; p < end - 1; p++) {
    if (*p == '%') {
      p++;
      if (in_class(c, (unsigned char)*p)) return wanted;
    } else if (p[1] == '-' && p + 2 < end - 1) {
      if ((unsigned char)p[0] <= c && c <= (unsigned char)p[2]) return wanted;
      p += 2;
    } else if ((unsigned char)*p == c) {
      return wanted;
    }
  }
  return !wanted;
}

/* Whether the character at s is what the item from p to end stands for. */
static bool is_item(matcher *m, const char *s, const char *p, const char *end) {
  count_steps(m, 1);
  if (s >= m->end) return false;
  int c = (unsigned char)*s;
  if (*p == '.') return true;
  if (*p == '%') return in_class(c, (unsigned char)p[1]);
  if (*p == '[') {
    count_steps(m, (size_t)(end - p) / COMPARED_PER_STEP);
    return in_set(c, p, end);
  }
  return (unsigned char)*p == c;
}

/* ---- Captures, balances, frontiers ---- */

static const char *begin_capture(matcher *m, const char *s, const char *p) {
  bool position = p < m->pattern_end && *p == ')';
  if (m->captures >= MOST_CAPTURES) luaL_error(m->L, "too many captures");
  m->capture[m->captures].start = s;
  m->capture[m->captures].length = position ? POSITION : OPEN;
  m->captures++;
  const char *end = match_from(m, s, position ? p + 1 : p);
  if (end == NULL) m->captures--;
  return end;
}

static const char *end_capture(matcher *m, const char *s, const char *p) {
  int i = m->captures - 1;
  while (i >= 0 && m->capture[i].length != OPEN) i--;
  if (i < 0) luaL_error(m->L, "invalid pattern capture");
  m->capture[i].length = s - m->capture[i].start;
  const char *end = match_from(m, s, p);
  if (end == NULL) m->capture[i].length = OPEN;
  return end;
}

/* %1: the text of an earlier capture again; its end, or NULL. */
static const char *match_again(matcher *m, const char *s, int digit) {
  int i = digit - '1';
  if (i < 0 || i >= m->captures || m->capture[i].length == OPEN) {
    luaL_error(m->L, "invalid capture index %%%d", i + 1);
  }
  size_t length = (size_t)m->capture[i].length;
  if ((size_t)(m->end - s) < length) return NULL;
  count_steps(m, length / COMPARED_PER_STEP);
  return memcmp(s, m->capture[i].start, length) == 0 ? s + length : NULL;
}

/* %bxy: the end of the balanced text at s, or NULL. */
static const char *match_balance(matcher *m, const char *s, const char *p) {
  if (p + 1 >= m->pattern_end) {
    luaL_error(m->L, "malformed pattern (missing arguments to '%%b')");
  }
  if (s >= m->end || *s != *p) return NULL;
  int depth = 1;
  for (s++; s < m->end; s++) {
    count_steps(m, 1);
    if (*s == p[1]) {
      if (--depth == 0) return s + 1;
    } else if (*s == *p) {
      depth++;
    }
  }
  return NULL;
}

/* %f[set]: whether a run of the set begins at s. */
static bool at_frontier(matcher *m, const char *s, const char *p, const char *end) {
  int before = s == m->subject ? '\0' : (unsigned char)s[-1];
  int here = s < m->end ? (unsigned char)*s : '\0';
  count_steps(m, 1 + (size_t)(end - p) / COMPARED_PER_STEP);
  return !in_set(before, p, end) && in_set(here, p, end);
}

static const char *frontier_end(matcher *m, const char *p) {
  if (p >= m->pattern_end || *p != '[') luaL_error(m->L, "missing '[' after '%%f' in pattern");
  return set_end(m, p);
}

/* ---- Repetitions ---- */

/* As many of the item as there are, at least `least`, then fewer and fewer. */
static const char *match_most(matcher *m, const char *s, const char *p, const char *end,
                              ptrdiff_t least) {
  ptrdiff_t n = 0;
  while (is_item(m, s + n, p, end)) n++;
  for (; n >= least; n--) {
    const char *found = match_from(m, s + n, end + 1);
    if (found != NULL) return found;
  }
  return NULL;
}

/* As few of the item as will do. */
static const char *match_fewest(matcher *m, const char *s, const char *p, const char *end) {
  for (;; s++) {
    const char *found = match_from(m, s, end + 1);
    if (found != NULL) return found;
    if (!is_item(m, s, p, end)) return NULL;
  }
}

/* ---- Patterns ---- */

/* The part of the pattern at *p that is neither capture nor single character: true when it is one,
 * and then *s is where its match ends, NULL when there is none, and *p behind it. */
static bool match_special(matcher *m, const char **s, const char **p) {
  if (**p != '%' || *p + 1 >= m->pattern_end) return false;
  char kind = (*p)[1];
  if (kind == 'b') {
    *s = match_balance(m, *s, *p + 2);
    *p += 4;
  } else if (kind == 'f') {
    const char *end = frontier_end(m, *p + 2);
    if (!at_frontier(m, *s, *p + 2, end)) *s = NULL;
    *p = end;
  } else if (isdigit((unsigned char)kind)) {
    *s = match_again(m, *s, (unsigned char)kind);
    *p += 2;
  } else {
    return false;
  }
  return true;
}

/* The end of the match of the rest of the pattern, p, at s; NULL when there is none. */
static const char *match_rest(matcher *m, const char *s, const char *p) {
  while (s != NULL && p < m->pattern_end) {
    count_steps(m, 1);
    if (*p == '(') return begin_capture(m, s, p + 1);
    if (*p == ')') return end_capture(m, s, p + 1);
    if (*p == '$' && p + 1 == m->pattern_end) return s == m->end ? s : NULL;
    if (match_special(m, &s, &p)) continue;
    const char *end = item_end(m, p);
    char suffix = end < m->pattern_end ? *end : '\0';
    if (suffix == '*') return match_most(m, s, p, end, 0);
    if (suffix == '+') return match_most(m, s, p, end, 1);
    if (suffix == '-') return match_fewest(m, s, p, end);
    bool here = is_item(m, s, p, end);
    if (suffix == '?') {
      const char *found = here ? match_from(m, s + 1, end + 1) : NULL;
      if (found != NULL) return found;
      p = end + 1;
    } else {
      s = here ? s + 1 : NULL;
      p = end;
    }
  }
  return s;
}

static const char *match_from(matcher *m, const char *s, const char *p) {
  if (m->nested >= MOST_NESTED) luaL_error(m->L, "pattern too complex");
  m->nested++;
  const char *end = match_rest(m, s, p);
  m->nested--;
  return end;
}

static const char *match_at(matcher *m, const char *s, const char *p) {
  m->captures = 0;
  return match_from(m, s, p);
}

static matcher new_matcher(lua_State *L, const char *text, size_t length, const char *pattern,
                           size_t pattern_length) {
  return (matcher){
      .L = L, .subject = text, .end = text + length, .pattern_end = pattern + pattern_length};
}

/* ---- Results ---- */

/* Pushes capture i; without captures, number 0 is the whole match. */
static void push_capture(const matcher *m, int i, const char *s, const char *end) {
  if (i >= m->captures) {
    if (i != 0) luaL_error(m->L, "invalid capture index %%%d", i + 1);
    lua_pushlstring(m->L, s, (size_t)(end - s));
  } else if (m->capture[i].length == POSITION) {
    lua_pushinteger(m->L, m->capture[i].start - m->subject + 1);
  } else {
    if (m->capture[i].length == OPEN) luaL_error(m->L, "unfinished capture");
    lua_pushlstring(m->L, m->capture[i].start, (size_t)m->capture[i].length);
  }
}

/* Pushes all captures, or the whole match if there are none and it is wanted. */
static int push_captures(const matcher *m, bool whole, const char *s, const char *end) {
  int count = m->captures == 0 && whole ? 1 : m->captures;
  luaL_checkstack(m->L, count, "too many captures");
  for (int i = 0; i < count; i++) push_capture(m, i, s, end);
  return count;
}

/* ---- The functions ---- */

/* The place at which the argument idx, 1 if absent, lets a search begin; above length if nowhere.
 */
static size_t check_start(lua_State *L, int idx, size_t length) {
  lua_Integer from = luaL_optinteger(L, idx, 1);
  if (from > 0) return (size_t)from - 1;
  if (from == 0 || from < -(lua_Integer)length) return 0;
  return length - (size_t)-from;
}

static int find_plain(lua_State *L, const char *text, size_t length, const char *wanted,
                      size_t wanted_length, size_t start) {
  rondo_charge(L, (length - start + wanted_length) / COMPARED_PER_STEP);
  const char *found = memmem(text + start, length - start, wanted, wanted_length);
  if (found == NULL) {
    lua_pushnil(L);
    return 1;
  }
  lua_pushinteger(L, found - text + 1);
  lua_pushinteger(L, found - text + (lua_Integer)wanted_length);
  return 2;
}

static bool is_plain(const char *pattern, size_t length) {
  for (size_t i = 0; i < length; i++) {
    if (pattern[i] != '\0' && strchr("^$*+?.([%-", pattern[i]) != NULL) return false;
  }
  return true;
}

static int search(lua_State *L, bool find) {
  size_t length, pattern_length;
  const char *text = luaL_checklstring(L, 1, &length);
  const char *pattern = luaL_checklstring(L, 2, &pattern_length);
  size_t start = check_start(L, 3, length);
  if (start > length) {
    lua_pushnil(L);
    return 1;
  }
  if (find && (lua_toboolean(L, 4) || is_plain(pattern, pattern_length)))
    return find_plain(L, text, length, pattern, pattern_length, start);
  matcher m = new_matcher(L, text, length, pattern, pattern_length);
  bool anchored = pattern_length > 0 && *pattern == '^';
  for (const char *s = text + start; s <= m.end; s++) {
    const char *end = match_at(&m, s, pattern + anchored);
    if (end != NULL && find) {
      lua_pushinteger(L, s - text + 1);
      lua_pushinteger(L, end - text);
      return push_captures(&m, false, s, end) + 2;
    }
    if (end != NULL) return push_captures(&m, true, s, end);
    if (anchored) break;
  }
  lua_pushnil(L);
  return 1;
}

static int find(lua_State *L) {
  return search(L, true);
}

static int match(lua_State *L) {
  return search(L, false);
}

/* The iterator of gmatch. Upvalues: the text, the pattern, where to go on, and the end of the last
 * match, 0 for none; both as offsets. */
static int next_match(lua_State *L) {
  size_t length, pattern_length;
  const char *text = lua_tolstring(L, lua_upvalueindex(1), &length);
  const char *pattern = lua_tolstring(L, lua_upvalueindex(2), &pattern_length);
  size_t start = (size_t)lua_tointeger(L, lua_upvalueindex(3));
  lua_Integer last = lua_tointeger(L, lua_upvalueindex(4));
  matcher m = new_matcher(L, text, length, pattern, pattern_length);
  for (; start <= length; start++) {
    const char *s = text + start, *end = match_at(&m, s, pattern);
    if (end == NULL || end - text == last) continue;
    lua_pushinteger(L, end - text);
    lua_copy(L, -1, lua_upvalueindex(3));
    lua_replace(L, lua_upvalueindex(4));
    return push_captures(&m, true, s, end);
  }
  lua_pushinteger(L, (lua_Integer)start);
  lua_replace(L, lua_upvalueindex(3));
  return 0;
}

static int gmatch(lua_State *L) {
  size_t length;
  luaL_checklstring(L, 1, &length);
  luaL_checkstring(L, 2);
  size_t start = check_start(L, 3, length);
  lua_settop(L, 2);
  lua_pushinteger(L, (lua_Integer)(start > length ? length + 1 : start));
  lua_pushinteger(L, -1);
  lua_pushcclosure(L, next_match, 4);
  return 1;
}

/* The text that the string at argument 3 makes of a match. */
static void add_string(const matcher *m, luaL_Buffer *b, const char *s, const char *end) {
  size_t length;
  const char *text = lua_tolstring(m->L, 3, &length);
  for (size_t i = 0; i < length; i++) {
    if (text[i] != '%') {
      luaL_addchar(b, text[i]);
      continue;
    }
    i++;
    if (i < length && text[i] == '%') {
      luaL_addchar(b, '%');
    } else if (i < length && text[i] == '0') {
      luaL_addlstring(b, s, (size_t)(end - s));
    } else if (i < length && isdigit((unsigned char)text[i])) {
      push_capture(m, text[i] - '1', s, end);
      luaL_tolstring(m->L, -1, NULL);
      lua_remove(m->L, -2);
      luaL_addvalue(b);
    } else {
      luaL_error(m->L, "invalid use of '%%' in replacement string");
    }
  }
}

/* Adds what takes the place of a match. */
static void add_replacement(const matcher *m, luaL_Buffer *b, int type, const char *s,
                            const char *end) {
  lua_State *L = m->L;
  if (type == LUA_TSTRING || type == LUA_TNUMBER) {
    add_string(m, b, s, end);
    return;
  }
  if (type == LUA_TFUNCTION) {
    lua_pushvalue(L, 3);
    lua_call(L, push_captures(m, true, s, end), 1);
  } else {
    push_capture(m, 0, s, end);
    lua_gettable(L, 3);
  }
  if (!lua_toboolean(L, -1)) {
    lua_pop(L, 1);
    luaL_addlstring(b, s, (size_t)(end - s));
    return;
  }
  if (!lua_isstring(L, -1)) {
    luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
  }
  luaL_addvalue(b);
}

static int gsub(lua_State *L) {
  size_t length, pattern_length;
  const char *text = luaL_checklstring(L, 1, &length);
  const char *pattern = luaL_checklstring(L, 2, &pattern_length);
  int type = lua_type(L, 3);
  bool fits =
      type == LUA_TSTRING || type == LUA_TNUMBER || type == LUA_TFUNCTION || type == LUA_TTABLE;
  if (!fits) luaL_typeerror(L, 3, "string/function/table");
  lua_Integer most = luaL_optinteger(L, 4, (lua_Integer)length + 1), count = 0;
  bool anchored = pattern_length > 0 && *pattern == '^';
  matcher m = new_matcher(L, text, length, pattern, pattern_length);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  const char *s = text, *last = NULL;
  while (count < most) {
    const char *end = match_at(&m, s, pattern + anchored);
    if (end != NULL && end != last) {
      count++;
      add_replacement(&m, &b, type, s, end);
      s = last = end;
    } else if (s < m.end) {
      luaL_addchar(&b, *s++);
    } else {
      break;
    }
    if (anchored) break;
  }
  luaL_addlstring(&b, s, (size_t)(m.end - s));
  luaL_pushresult(&b);
  lua_pushinteger(L, count);
  return 2;
}

/* rep(s, n [, separator]), where Lua's own counts to n even for nothing. */
static int rep(lua_State *L) {
  size_t length, separator;
  luaL_checklstring(L, 1, &length);
  lua_Integer n = luaL_checkinteger(L, 2);
  luaL_optlstring(L, 3, "", &separator);
  if (n <= 0 || length + separator == 0) {
    lua_pushliteral(L, "");
    return 1;
  }
  rondo_charge(L, (uint64_t)n);
  lua_settop(L, 3);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, 3, 1);
  return 1;
}

void rondo_open_match(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"find", find}, {"match", match}, {"gmatch", gmatch}, {"gsub", gsub}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  lua_getfield(L, -1, "rep");
  lua_pushcclosure(L, rep, 1);
  lua_setfield(L, -2, "rep");
}
