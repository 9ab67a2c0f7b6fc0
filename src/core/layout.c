/* layout.c - codes into words and back, some lines at a time: codes of a line stand in a row of
 * their own, are packed there, and their words go where they belong. */
#include "core/layout.h"

#include <string.h>

enum {
  LINES = 32,  /* of a task: words of a transposed matrix are stored so many at once */
  CHUNK = 512, /* codes of a line at once; all of a task's lines stay in L1 */
  PADDING = RONDO_MOST_FIELDS + 8, /* behind the last field: to the end of a word, and of eight */
  WORD_ROOM = CHUNK + PADDING      /* bytes of a chunk's words */
};

typedef struct {
  const rondo_layout *layout;
  int64_t lines, codes, words; /* lines; codes and words of each */
  const uint8_t *from;
  uint8_t *to;
} job;

static int fields_of(const rondo_layout *layout) {
  return 8 * layout->word_bytes / layout->bits;
}

int rondo_layout_unit(const rondo_layout *layout) {
  int unit = fields_of(layout), word_bits = 8 * layout->word_bytes;
  if (!layout->dense) return unit;
  for (unit = 1; unit * layout->bits % word_bits != 0;) unit++;
  return unit;
}

int64_t rondo_layout_words(const rondo_layout *layout, int64_t codes) {
  int64_t unit = rondo_layout_unit(layout), word_bits = 8 * layout->word_bytes;
  if (!layout->dense) return (codes + unit - 1) / unit;
  int64_t rest = codes % unit; /* keeps products small */
  return codes / unit * (unit * layout->bits / word_bits) +
         (rest * layout->bits + word_bits - 1) / word_bits;
}

/* ---- Matrices ---- */

/* A piece of a matrix that holds lines, as its rows or as its columns: `count` elements of n lines.
 */
typedef struct {
  bool rows;
  int64_t lines, length; /* of the whole matrix */
  int64_t first, at;     /* line and element where the piece begins */
  int n, count;
  size_t size; /* of an element: 1, 2, 4 or 8 bytes */
} piece;

/* Elements of lines, so far apart from line to line and from one to the next. */
static inline void copy_elements(const uint8_t *from, size_t from_line, size_t from_next,
                                 uint8_t *to, size_t to_line, size_t to_next, int lines, int count,
                                 size_t size) {
  for (int i = 0; i < count; i++) {
    for (int l = 0; l < lines; l++) {
      memcpy(to + (size_t)l * to_line + (size_t)i * to_next,
             from + (size_t)l * from_line + (size_t)i * from_next, size);
    }
  }
}

static void copy_columns(const uint8_t *from, size_t from_line, size_t from_next, uint8_t *to,
                         size_t to_line, size_t to_next, const piece *p) {
  int n = p->n, count = p->count;
  switch (p->size) { /* so that each size is known to the compiler */
  case 1:
    copy_elements(from, from_line, from_next, to, to_line, to_next, n, count, 1);
    break;
  case 2:
    copy_elements(from, from_line, from_next, to, to_line, to_next, n, count, 2);
    break;
  case 4:
    copy_elements(from, from_line, from_next, to, to_line, to_next, n, count, 4);
    break;
  default:
    copy_elements(from, from_line, from_next, to, to_line, to_next, n, count, 8);
  }
}

static size_t start_of(const piece *p) {
  return (size_t)(p->rows ? p->first * p->length + p->at : p->at * p->lines + p->first) * p->size;
}

/* A piece of a matrix into lines of `stride` bytes. */
static void gather(const piece *p, const uint8_t *matrix, uint8_t *lines, size_t stride) {
  const uint8_t *from = matrix + start_of(p);
  if (!p->rows) {
    copy_columns(from, p->size, (size_t)p->lines * p->size, lines, stride, p->size, p);
    return;
  }
  for (int l = 0; l < p->n; l++) {
    memcpy(lines + (size_t)l * stride, from + (size_t)(l * p->length) * p->size,
           (size_t)p->count * p->size);
  }
}

/* The reverse. */
static void scatter(const piece *p, const uint8_t *lines, size_t stride, uint8_t *matrix) {
  uint8_t *to = matrix + start_of(p);
  if (!p->rows) {
    copy_columns(lines, stride, p->size, to, p->size, (size_t)p->lines * p->size, p);
    return;
  }
  for (int l = 0; l < p->n; l++) {
    memcpy(to + (size_t)(l * p->length) * p->size, lines + (size_t)l * stride,
           (size_t)p->count * p->size);
  }
}

/* ---- A line ---- */

/* n codes as fields, in the order in which they stand in words, with zeros behind them. */
static void to_fields(const rondo_layout *layout, const uint8_t *codes, int n, uint8_t *fields) {
  uint8_t plain[CHUNK + PADDING], *out = layout->ordered ? plain : fields;
  const uint8_t mask = (uint8_t)((1u << layout->bits) - 1);
  if (layout->mapped) {
    for (int i = 0; i < n; i++) out[i] = layout->map[codes[i] & 15];
  } else {
    for (int i = 0; i < n; i++) out[i] = (uint8_t)(codes[i] + layout->add) & mask;
  }
  memset(out + n, 0, PADDING);
  if (!layout->ordered) return;
  int unit = fields_of(layout);
  for (int i = 0; i < n; i += unit) {
    for (int e = 0; e < unit; e++) fields[i + e] = plain[i + layout->order[e]];
  }
}

static void from_fields(const rondo_layout *layout, const uint8_t *fields, int n, uint8_t *codes) {
  uint8_t plain[CHUNK + PADDING];
  const uint8_t mask = (uint8_t)((1u << layout->bits) - 1);
  const uint8_t top = layout->is_signed ? (uint8_t)(1u << (layout->bits - 1)) : 0;
  int unit = fields_of(layout);
  for (int i = 0; layout->ordered && i < n; i += unit) {
    for (int e = 0; e < unit; e++) plain[i + layout->order[e]] = fields[i + e];
  }
  if (layout->ordered) fields = plain;
  if (layout->mapped) {
    for (int i = 0; i < n; i++) codes[i] = (uint8_t)((layout->unmap[fields[i]] ^ top) - top);
  } else {
    for (int i = 0; i < n; i++) {
      uint8_t code = (uint8_t)(fields[i] - layout->add) & mask;
      codes[i] = (uint8_t)((code ^ top) - top);
    }
  }
}

/* Eight fields of a stream are `bits` bytes. */
static void pack_stream(const uint8_t *fields, int n, int bits, uint8_t *bytes) {
  if (bits == 8) {
    memcpy(bytes, fields, (size_t)n);
    return;
  }
  for (int i = 0; bits == 4 && i < n / 2; i++) {
    bytes[i] = (uint8_t)(fields[2 * i] | fields[2 * i + 1] << 4);
  }
  for (int i = 0; bits != 4 && i < n; i += 8) {
    uint64_t stream = 0;
    for (int e = 0; e < 8; e++) stream |= (uint64_t)fields[i + e] << (bits * e);
    for (int b = 0; b < bits; b++) bytes[b] = (uint8_t)(stream >> (8 * b));
    bytes += bits;
  }
}

static void unpack_stream(const uint8_t *bytes, int n, int bits, uint8_t *fields) {
  const uint8_t mask = (uint8_t)((1u << bits) - 1);
  for (int i = 0; i < n; i += 8) {
    uint64_t stream = 0;
    for (int b = 0; b < bits; b++) stream |= (uint64_t)bytes[b] << (8 * b);
    for (int e = 0; e < 8; e++) fields[i + e] = (uint8_t)(stream >> (bits * e)) & mask;
    bytes += bits;
  }
}

static bool is_stream(const rondo_layout *layout) {
  return layout->dense || fields_of(layout) * layout->bits == 8 * layout->word_bytes;
}

/* Places for fields in the words of n codes. */
static int places(const rondo_layout *layout, int n) {
  return (int)rondo_layout_words(layout, n) * layout->word_bytes * 8 / layout->bits;
}

static void pack_line(const rondo_layout *layout, const uint8_t *codes, int n, uint8_t *words) {
  uint8_t fields[CHUNK + PADDING];
  to_fields(layout, codes, n, fields);
  if (is_stream(layout)) {
    pack_stream(fields, places(layout, n), layout->bits, words);
    return;
  }
  int unit = fields_of(layout);
  for (int i = 0; i < n; i += unit) {
    uint64_t word = 0;
    for (int e = 0; e < unit; e++) word |= (uint64_t)fields[i + e] << (layout->bits * e);
    for (int b = 0; b < layout->word_bytes; b++) *words++ = (uint8_t)(word >> (8 * b));
  }
}

static void unpack_line(const rondo_layout *layout, const uint8_t *words, int n, uint8_t *codes) {
  uint8_t fields[CHUNK + PADDING];
  int unit = fields_of(layout);
  const uint8_t mask = (uint8_t)((1u << layout->bits) - 1);
  if (is_stream(layout)) unpack_stream(words, places(layout, n), layout->bits, fields);
  for (int i = 0; !is_stream(layout) && i < n; i += unit) {
    uint64_t word = 0;
    for (int b = 0; b < layout->word_bytes; b++) word |= (uint64_t)*words++ << (8 * b);
    for (int e = 0; e < unit; e++) fields[i + e] = (uint8_t)(word >> (layout->bits * e)) & mask;
  }
  from_fields(layout, fields, n, codes);
}

/* ---- Tasks ---- */

typedef struct {
  uint8_t codes[LINES][CHUNK + PADDING];
  uint8_t words[LINES][WORD_ROOM];
} buffers;

static int chunk_of(const rondo_layout *layout) {
  int unit = rondo_layout_unit(layout);
  return CHUNK / unit * unit;
}

/* The codes of a task's lines from code `at` on, and their words. */
static piece codes_from(const job *j, size_t task, int64_t at) {
  int64_t first = (int64_t)task * LINES, chunk = chunk_of(j->layout);
  piece p = {.rows = j->layout->dim == 1,
             .lines = j->lines,
             .length = j->codes,
             .first = first,
             .at = at,
             .size = 1};
  p.n = j->lines - first < LINES ? (int)(j->lines - first) : LINES;
  p.count = (int)(j->codes - at < chunk ? j->codes - at : chunk);
  return p;
}

static piece words_of(const job *j, piece codes) {
  piece p = codes;
  p.rows = codes.rows != j->layout->transposed;
  p.length = j->words;
  p.at = rondo_layout_words(j->layout, codes.at);
  p.count = (int)rondo_layout_words(j->layout, codes.count);
  p.size = (size_t)j->layout->word_bytes;
  return p;
}

static void pack_task(void *context, size_t task, int worker) {
  (void)worker;
  const job *j = context;
  buffers b;
  for (int64_t at = 0; at < j->codes; at += chunk_of(j->layout)) {
    piece codes = codes_from(j, task, at), words = words_of(j, codes);
    gather(&codes, j->from, b.codes[0], sizeof b.codes[0]);
    for (int l = 0; l < codes.n; l++) pack_line(j->layout, b.codes[l], codes.count, b.words[l]);
    scatter(&words, b.words[0], sizeof b.words[0], j->to);
  }
}

static void unpack_task(void *context, size_t task, int worker) {
  (void)worker;
  const job *j = context;
  buffers b;
  for (int64_t at = 0; at < j->codes; at += chunk_of(j->layout)) {
    piece codes = codes_from(j, task, at), words = words_of(j, codes);
    gather(&words, j->from, b.words[0], sizeof b.words[0]);
    for (int l = 0; l < codes.n; l++) unpack_line(j->layout, b.words[l], codes.count, b.codes[l]);
    scatter(&codes, b.codes[0], sizeof b.codes[0], j->to);
  }
}

static void run(const rondo_layout *layout, rondo_pool *pool, rondo_task task, int64_t rows,
                int64_t cols, const void *from, void *to) {
  job j = {.layout = layout, .from = from, .to = to};
  j.lines = layout->dim == 1 ? rows : cols;
  j.codes = layout->dim == 1 ? cols : rows;
  j.words = rondo_layout_words(layout, j.codes);
  size_t tasks = (size_t)((j.lines + LINES - 1) / LINES);
  if (pool != NULL) {
    rondo_pool_run(pool, tasks, task, &j);
    return;
  }
  for (size_t i = 0; i < tasks; i++) task(&j, i, 0);
}

void rondo_layout_pack(const rondo_layout *layout, rondo_pool *pool, const uint8_t *codes,
                       int64_t rows, int64_t cols, void *words) {
  run(layout, pool, pack_task, rows, cols, codes, words);
}

void rondo_layout_unpack(const rondo_layout *layout, rondo_pool *pool, const void *words,
                         int64_t rows, int64_t cols, uint8_t *codes) {
  run(layout, pool, unpack_task, rows, cols, words, codes);
}

/* ---- Words into words ---- */

enum { RECODED = 1 << 16 }; /* words of a task */

typedef struct {
  const rondo_layout *layout;
  const rondo_kernels *kernels;
  const uint8_t *from;
  uint8_t *to;
  size_t words;
  uint8_t low[16], high[16]; /* what becomes of the codes of a byte */
} recoding;

static void make_tables(recoding *r) {
  const rondo_layout *layout = r->layout;
  bool swapped = layout->ordered && layout->order[0] == 1;
  for (int code = 0; code < 16; code++) {
    int field = layout->mapped ? layout->map[code] : code;
    r->low[code] = (uint8_t)(swapped ? field << 4 : field);
    r->high[code] = (uint8_t)(swapped ? field : field << 4);
  }
}

static void recode_words(const uint8_t *order, const uint8_t *from, size_t n, uint8_t *to) {
  int shift[8]; /* of this function's own, so that compilers make vectors of words */
  for (int e = 0; e < 8; e++) shift[e] = 4 * order[e];
  for (size_t i = 0; i < n; i++) {
    uint32_t word, out = 0;
    memcpy(&word, from + 4 * i, sizeof word);
    for (int e = 0; e < 8; e++) out |= (word >> shift[e] & 15) << (4 * e);
    memcpy(to + 4 * i, &out, sizeof out);
  }
}

static void recode_task(void *context, size_t task, int worker) {
  (void)worker;
  const recoding *r = context;
  size_t first = task * RECODED, n = r->words - first < RECODED ? r->words - first : RECODED;
  size_t at = first * (size_t)r->layout->word_bytes;
  if (r->layout->word_bytes == 4) {
    recode_words(r->layout->order, r->from + at, n, r->to + at);
    return;
  }
  r->kernels->recode_pairs(r->from + at, n, r->low, r->high, r->to + at);
}

void rondo_layout_recode(const rondo_layout *layout, const rondo_kernels *kernels, rondo_pool *pool,
                         const void *from, size_t words, void *to) {
  recoding r = {.layout = layout, .kernels = kernels, .from = from, .to = to, .words = words};
  make_tables(&r);
  rondo_pool_run(pool, (words + RECODED - 1) / RECODED, recode_task, &r);
}
