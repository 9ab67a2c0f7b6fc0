// judge.cpp - a C++ application that runs scripts of strangers: they may read models in one folder,
// compute within limits, and leave a number in the global `score`.
//
//   judge MODELS SCRIPT.lua...
//
//   c++ -std=c++17 judge.cpp -o judge $(pkg-config --cflags --libs rondo)
#include <rondo/rondo.h>

#include <cstdio>
#include <memory>
#include <string>

struct Free {
  void operator()(rondo *r) const { rondo_free(r); }
};
using Host = std::unique_ptr<rondo, Free>;

// Callbacks come from C: no exception may leave them.
static void on_warning(void *user, const char *message) noexcept {
  std::printf("%s: %s\n", static_cast<const std::string *>(user)->c_str(), message);
}

// A host for one script, so that no script finds what another has left.
static Host make_host(const char *models, std::string *name) {
  rondo_config config{};
  config.size = sizeof config;
  config.trust = RONDO_TRUST_NOTHING;
  config.threads = 2;
  config.memory_limit = 256u << 20;
  config.step_limit = 500 * 1000 * 1000;
  config.time_limit = 10 * 1000;
  config.inputs = models;
  config.on_warning = on_warning;
  config.user = name;
  return Host(rondo_new(&config));
}

static bool judge(const char *models, std::string name) {
  Host host = make_host(models, &name);
  rondo_value score{};
  bool good = rondo_run(host.get(), name.c_str(), 0, nullptr) == RONDO_OK &&
              rondo_eval(host.get(), "tonumber(score)", &score) == RONDO_OK;
  if (!good) {
    const rondo_error_record *e = rondo_last_error(host.get());
    std::printf("%s: %s: %s\n", name.c_str(), e->code, e->message);
  } else if (score.type == RONDO_VALUE_NIL) {
    std::printf("%s: no score\n", name.c_str());
  } else {
    std::printf("%s: %g\n", name.c_str(), score.number);
  }
  return good;
}

int main(int argc, char **argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s MODELS SCRIPT.lua...\n", argv[0]);
    return 2;
  }
  bool good = true;
  for (int i = 2; i < argc; i++) good = judge(argv[1], argv[i]) && good;
  return good ? 0 : 1;
}
