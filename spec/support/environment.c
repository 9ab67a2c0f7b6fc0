/* environment.c - what a host may have set of the processor's floating-point environment: for
 * specs, which load these functions with package.loadlib. None of them looks at the Lua state. */
#include <fenv.h>

struct lua_State;

int host_upward(struct lua_State *L);
int host_flush(struct lua_State *L);
int host_default(struct lua_State *L);

int host_upward(struct lua_State *L) {
  (void)L;
  fesetround(FE_UPWARD);
  return 0;
}

/* Subnormal numbers are read and written as 0, where the processor can do that. */
int host_flush(struct lua_State *L) {
  (void)L;
#if defined(__x86_64__)
  __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040u);
#elif defined(__aarch64__)
  unsigned long control;
  __asm__ volatile("mrs %0, fpcr" : "=r"(control));
  __asm__ volatile("msr fpcr, %0" : : "r"(control | 1ul << 24));
#endif
  return 0;
}

int host_default(struct lua_State *L) {
  (void)L;
  fesetenv(FE_DFL_ENV);
  return 0;
}
