/* pack.c - codes of b bits into words of 8, 16, 32 or 64 bits and back.
 * Included by table.c. Field e of a word stands at bit b*e; bits that no code fills are zero. */

/* Word w takes its field e from codes[w * word_step + e * field_step]. All words have `fields`
 * fields, the last one has `last_fields`. */
static void pack_words(const uint8_t *codes, size_t word_step, size_t field_step, size_t words,
                       int fields, int last_fields, int bits, int word_bytes, void *target) {
  const uint64_t mask = ((uint64_t)1 << bits) - 1;
  unsigned char *out = target;
  for (size_t w = 0; w < words; w++) {
    const uint8_t *code = codes + w * word_step;
    int count = w + 1 == words ? last_fields : fields;
    uint64_t word = 0;
    for (int e = 0; e < count; e++) word |= (code[(size_t)e * field_step] & mask) << (bits * e);
    for (int b = 0; b < word_bytes; b++) out[b] = (unsigned char)(word >> (8 * b));
    out += word_bytes;
  }
}

/* The reverse; with `sign` the top bit of a field is its sign (two's complement in 8 bits). */
static void unpack_words(const void *source, size_t word_step, size_t field_step, size_t words,
                         int fields, int last_fields, int bits, int word_bytes, bool sign,
                         uint8_t *codes) {
  const uint64_t mask = ((uint64_t)1 << bits) - 1;
  const uint64_t top = sign ? (uint64_t)1 << (bits - 1) : 0;
  const unsigned char *in = source;
  for (size_t w = 0; w < words; w++) {
    uint64_t word = 0;
    for (int b = 0; b < word_bytes; b++) word |= (uint64_t)in[b] << (8 * b);
    uint8_t *code = codes + w * word_step;
    int count = w + 1 == words ? last_fields : fields;
    for (int e = 0; e < count; e++) {
      uint64_t field = word >> (bits * e) & mask;
      code[(size_t)e * field_step] = (uint8_t)((field ^ top) - top);
    }
    in += word_bytes;
  }
}
