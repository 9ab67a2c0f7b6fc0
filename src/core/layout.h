/* layout.h - how a matrix of codes lies in the words of a file.
 *
 * Codes are bytes [rows, cols]. A line is a row of them (dim 1) or a column (dim 0); a line's codes
 * become fields of `bits` bits, the first at bit 0, and fields fill little-endian words: whole
 * fields of each word, what is left of its bits zero, or densely, one after the other as a stream
 * of bits. What no code fills is zero. The words of a line run along the dimension that its codes
 * ran along, unless the matrix of words is transposed. */
#ifndef RONDO_CORE_LAYOUT_H
#define RONDO_CORE_LAYOUT_H

#include "core/error.h"
#include "core/pool.h"
#include "kernels/kernels.h"

#include <stdbool.h>
#include <stdint.h>

enum { RONDO_MOST_FIELDS = 64 };

typedef struct rondo_layout {
  int bits;       /* of a field: 1 to 8 */
  int word_bytes; /* 1, 2, 4 or 8 */
  int dim;        /* that lines run along: 1 or 0 */
  bool dense, transposed;
  bool is_signed; /* codes are two's complement: their top bit is extended when read */
  uint8_t add;    /* a field is (code + add) modulo 2^bits */
  bool mapped;    /* ... or map[code modulo 16], for 4 bits */
  uint8_t map[16], unmap[16];
  bool ordered; /* field e of a word holds the word's code number order[e] */
  uint8_t order[RONDO_MOST_FIELDS];
} rondo_layout;

/* Fields of a word; of whole words together where they are dense. Lines are cut at multiples. */
int rondo_layout_unit(const rondo_layout *layout);

/* Words of a line of so many codes. */
int64_t rondo_layout_words(const rondo_layout *layout, int64_t codes);

/* words: [rows, words of cols] for dim 1, [words of rows, cols] for dim 0; transposed, the other
 * way round. pool may be NULL. */
void rondo_layout_pack(const rondo_layout *layout, rondo_pool *pool, const uint8_t *codes,
                       int64_t rows, int64_t cols, void *words);
void rondo_layout_unpack(const rondo_layout *layout, rondo_pool *pool, const void *words,
                         int64_t rows, int64_t cols, uint8_t *codes);

/* Puts the codes of words that hold them as they are in the layout's order, by its map: for 4 bits,
 * in words of 1 byte, or of 4 without a map. */
void rondo_layout_recode(const rondo_layout *layout, const rondo_kernels *kernels, rondo_pool *pool,
                         const void *from, size_t words, void *to);

#endif
