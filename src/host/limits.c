/* limits.c - steps and time that a call may take.
 *
 * A step is a Lua instruction, or what takes native code about as long: 64 bytes of new memory, 16
 * elements of a tensor. Steps are charged where they are cheap to count: by the hook that looks for
 * interruptions, by the allocator, and before each piece of native work. When they are used up, or
 * the time is over, the script ends as if it were interrupted; native work, too, looks at the
 * time. */
#include "host/host.h"

#include <stdio.h>

enum {
  BYTES_PER_STEP = 64,
  MILLISECOND = 1000000,
  MOST_OPEN = 64 /* checkpoints of scripts without trust: each has descriptors */
};

void rondo_set_defaults(rondo_config *config) {
  if (config->trust == RONDO_TRUST_EVERYTHING) return;
  if (config->memory_limit == 0) config->memory_limit = 4ull << 30;
  if (config->step_limit == 0) config->step_limit = 4ull * 1000 * 1000 * 1000;
  if (config->time_limit == 0) config->time_limit = 60 * 1000;
}

bool rondo_is_polled(const rondo *r) {
  return r->config.trust == RONDO_TRUST_NOTHING || r->config.step_limit != 0 ||
         r->config.time_limit != 0;
}

static bool is_limited(const rondo *r) {
  return r->busy && r->made;
}

void rondo_refill(rondo *r) {
  r->steps = r->config.step_limit != 0 ? r->config.step_limit : UINT64_MAX;
  bool timed = r->config.time_limit != 0 && is_limited(r);
  r->stop.deadline = timed ? rondo_clock() + r->config.time_limit * MILLISECOND : RONDO_NEVER;
}

void rondo_spend(rondo *r, uint64_t steps) {
  if (r->config.step_limit == 0 || !is_limited(r)) return;
  if (steps > r->steps) r->limited = RONDO_LIMIT_STEPS;
  r->steps -= steps < r->steps ? steps : r->steps;
}

void rondo_spend_bytes(rondo *r, uint64_t bytes) {
  r->bytes += bytes;
  if (r->bytes < BYTES_PER_STEP) return;
  rondo_spend(r, r->bytes / BYTES_PER_STEP);
  r->bytes %= BYTES_PER_STEP;
}

bool rondo_is_over(rondo *r) {
  bool late = r->stop.deadline != RONDO_NEVER && rondo_clock() > r->stop.deadline;
  if (late && r->limited == RONDO_LIMIT_NONE) r->limited = RONDO_LIMIT_TIME;
  return r->limited != RONDO_LIMIT_NONE;
}

static bool keeps_too_much(const rondo *r) {
  bool many = r->config.trust == RONDO_TRUST_NOTHING && r->open > MOST_OPEN;
  return many || (r->config.memory_limit != 0 && r->used > r->config.memory_limit);
}

void rondo_keep(lua_State *L, int64_t bytes) {
  rondo *r = rondo_host_of(L);
  r->used += (uint64_t)bytes;
  r->open += bytes > 0 ? 1 : -1;
  if (bytes < 0 || !keeps_too_much(r)) return;
  lua_gc(L, LUA_GCCOLLECT);
  if (!keeps_too_much(r)) return;
  bool many = r->open > MOST_OPEN;
  r->used -= (uint64_t)bytes;
  r->open--;
  luaL_error(L, many ? "too many models are open" : "not enough memory for another model");
}

void rondo_limit_text(const rondo *r, char *text, size_t size) {
  if (r->limited == RONDO_LIMIT_TIME) {
    snprintf(text, size, "the script has reached its limit of %llu milliseconds",
             (unsigned long long)r->config.time_limit);
  } else {
    snprintf(text, size, "the script has reached its limit of %llu steps",
             (unsigned long long)r->config.step_limit);
  }
}

void rondo_charge(lua_State *L, uint64_t steps) {
  rondo_spend(rondo_host_of(L), steps);
  rondo_poll(L);
}

int rondo_charge_script(lua_State *L) {
  lua_Number steps = luaL_checknumber(L, 1);
  rondo_charge(L, steps < 0x1p62 ? (uint64_t)(steps > 0 ? steps : 0) : UINT64_MAX);
  return 0;
}
