-- The pattern language: examples by hand, malformed patterns, and the matcher against a naive
-- backtracking one on random patterns and names.

local pattern = require "rondo.pattern"

local LLAMA = "model.layers.31.mlp.down_proj.weight"

-- Each row: the pattern, names it matches, names it does not match.
local examples = {
  { "norm", { "norm", "model.norm.weight", "norm.bias" },
    { "model.layernorm.weight", "norms", "norm_1", "" } },
  { "down_proj.weight", { LLAMA, "down_proj.weight" },
    { "down_proj.weights", "x_down_proj.weight", "down_proj.a.weight", "down_projxweight" } },
  { "layers.3", { "layers.3.mlp.weight", "model.layers.3" },
    { LLAMA, "layers.13.x", "layers.30", "layers.x.3" } },
  { "*norm.weight", { "norm.weight", "model.input_layernorm.weight" },
    { "norm.x.weight", "norm1.weight", "a.norm" } },
  { "*_proj.weight", { LLAMA, "_proj.weight" }, { "proj.weight", "o_proj.bias" } },
  { "q_*", { "q_proj.weight", "a.q_.b" }, { "a.xq_proj", "qproj" } },
  { "*_*_*", { "a.x_y_z.b", "__" }, { "x_y.z_w", "_" } },
  { "a*c", { "ac", "abc", "x.abbc.y" }, { "a.c", "abcd", "xabc" } },
  { "*b*", { "b", "abc", "x.abc.y" }, { "a.c" } },
  { "a.*.b", { "a.b", "a.x.b", "a.x.y.b.z", "a.a.b" }, { "b.a", "ab", "a", "b.x.a", "xa.b" } },
  { "a.*.*.b", { "a.b", "a.x.b" }, { "ab" } },
  { "a*.*.*b", { "ax.yb", "a.b", "ax.m.n.yb" }, { "axyb", "ab" } },
  { "*.mlp.down_proj.weight", { LLAMA, "mlp.down_proj.weight" }, { "xmlp.down_proj.weight" } },
  { "layers.{0-3}.*", { "layers.0", "layers.3.mlp.weight", "m.layers.2.x" },
    { LLAMA, "layers.4.x", "layers.03.x", "layers.x.3", "layers.-1" } },
  { "*", { "", "a", LLAMA, "..", "%" }, {} },
  { "*.*", { "", "a" }, {} },
  { "**", { "", "a" }, {} },
  { "embed_tokens|lm_head", { "model.embed_tokens.weight", "lm_head.weight" },
    { "embed_tokens_2", "tokens", "lm_heads" } },
  { "embed_tokens | lm_head", { "model.embed_tokens.weight", "lm_head.weight" }, { "x" } },
  { "a.b|c.*.d|e", { "a.b", "c.d", "c.x.d", "z.e" }, { "a.c", "c", "d", "b" } },
  { "{q,k,v}_proj", { "self_attn.q_proj.weight", "k_proj", "v_proj" }, { "o_proj", "qk_proj" } },
  { "{ q , k }_proj", { "q_proj", "k_proj" }, { " q _proj" } },
  { "a.{b.c,d}.e", { "a.b.c.e", "a.d.e" }, { "a.b.e", "a.c.e", "a.b.d.e" } },
  { "{a,b{c,d*}}", { "a", "bc", "bd", "bdx" }, { "b", "c", "bx" } },
  { "{a,b}{c,d}", { "ac", "ad", "bc", "bd" }, { "ab", "cd", "a", "c" } },
  { "{*.mlp,attn}.weight", { "x.mlp.weight", "attn.weight" }, { "mlp.x.weight" } },
  { "layers.{0-1,7,10-11}", { "layers.0", "layers.1.x", "layers.7", "layers.10", "layers.11" },
    { "layers.2", "layers.9", "layers.70", "layers.17", "layers.110", "layers." } },
  { "layers.{3}", { "layers.3" }, { "layers.33", "layers.{3}", "layers.03" } },
  { "layers.{0-3,x}", { "layers.2", "layers.x" }, { "layers.4", "layers.y" } },
  { "h{1-12}x", { "h1x", "h12x", "h9x" }, { "h0x", "h13x", "h1", "h01x", "hx" } },
  { "*{1-3}", { "a1", "b.x3", "2", "a-1" }, { "a12", "a21", "1a", "a4" } },
  { "{1-3}*", { "1", "3x", "2.x" }, { "12", "x1", "4" } },
  { "*{1-3}*", { "a9b2c", "2", "1a" }, { "a12b", "99", "a.b" } },
  { "*x{1-2}*x{1-2}", { "x1x2", "ax1bx9x2" }, { "x1", "x1x2x", "x1x3" } },
  { "{1-3}.{4-6}", { "1.4", "9.3.6", "1.2.4" }, { "4.1", "1.x.4" } },
  { "{1-3}_{1-3}.{1-3}_{1-3}", { "9_9.1_2.3_3" }, { "1_2.3_4", "1_2.33" } },
  { "{0-9}.weight", { "0.weight", "2.2.weight" }, { "12.weight" } },
  { "{01,02}", { "01", "02" }, { "1", "2" } },
  { "{a-b,c}", { "a-b", "c" }, { "a", "b" } },
  { "{conv-1}", { "conv-1" }, { "1", "conv" } },
  -- every character that Lua patterns or file globs would read otherwise
  { "a%d+", { "a%d+" }, { "a1", "a11" } },
  { "^x$", { "^x$" }, { "x" } },
  { "[ab]?", { "[ab]?" }, { "a", "b", "ax" } },
  { "(a)-b", { "(a)-b" }, { "a-b", "ab" } },
  { "a,b", { "a,b", "x.a,b" }, { "a", "b" } },
  { "x%*", { "x%", "x%abc" }, { "x*" } },
  { "é*", { "é", "un.état" }, { "e" } },
  { "a\\b", { "a\\b" }, { "ab" } },
  { "A", { "A" }, { "a" } },
}

-- Each row: the pattern, the character named, a part of the reason.
local malformed = {
  { "", 1, "empty pattern" },
  { "   ", 1, "empty pattern" },
  { "a||b", 3, "empty pattern" },
  { "a|", 3, "empty pattern" },
  { "|a", 1, "empty pattern" },
  { "a..b", 3, "empty segment" },
  { ".a", 1, "empty segment" },
  { "a.", 2, "empty segment" },
  { "a|b.", 4, "empty segment" },
  { "a.{.b,c}", 4, "empty segment" },
  { "{", 1, "never closed" },
  { "a.{b", 3, "never closed" },
  { "a.{b,", 3, "never closed" },
  { "a.{0-3", 3, "never closed" },
  { "é.{b", 3, "never closed" },
  { "{a,{b}", 1, "never closed" },
  { "{}", 2, "empty item" },
  { "{a,}", 4, "empty item" },
  { "{,a}", 2, "empty item" },
  { "{a, ,b}", 4, "empty item" },
  { "a}", 2, "without '{'" },
  { "{a}}", 4, "without '{'" },
  { "{a|b}", 3, "','" },
  { "layers.{3-0}", 9, "backwards" },
  { "layers.{0-x}", 9, "'x' is not a number" },
  { "layers.{first}", 9, "no model" },
  { "layers.{0-last}", 9, "no model" },
  { "layers.{0-9999999999}", 9, "too large" },
  { "1{0-3}", 2, "whole" },
  { "{0-3}1", 1, "whole" },
  { "{0-3}{0-3}", 1, "whole" },
  { ("{"):rep(17) .. "a" .. ("}"):rep(17), 17, "nested too deeply" },
  { ("{a,b}"):rep(10), 46, "more than 1000" },
}

describe("a pattern", function()
  for _, row in ipairs(examples) do
    it("reads " .. row[1], function()
      local matcher = pattern.compile(row[1])
      for _, name in ipairs(row[2]) do
        assert.is_true(matcher(name), ("'%s' should match '%s'"):format(row[1], name))
        assert.is_true(matcher:match(name))
        assert.is_true(matcher.test(name))
      end
      for _, name in ipairs(row[3]) do
        assert.is_false(matcher(name), ("'%s' should not match '%s'"):format(row[1], name))
      end
    end)
  end

  for _, row in ipairs(malformed) do
    it("is refused: " .. row[1], function()
      local ok, message = pcall(pattern.compile, row[1])
      assert.is_false(ok)
      assert.matches("malformed pattern", message, 1, true)
      assert.matches(("at character %d:"):format(row[2]), message, 1, true)
      assert.matches(row[3], message, 1, true)
      assert.is_true(#message < 512)
    end)
  end

  it("is refused where it was written, not inside rondo", function()
    local _, message = pcall(function() pattern.compile "a..b" end)
    assert.matches("pattern_spec.lua:%d+: malformed", message)
  end)

  it("must be a string, and so must a name", function()
    assert.has_error(function() pattern.compile(3) end,
      "bad argument #1 to 'compile' (string expected, got number)")
    assert.error_matches(function() pattern.compile("a"):match(nil) end, "string expected, got nil")
    assert.error_matches(function() pattern.compile("a")({}) end, "string expected, got table")
  end)

  it("bounds and cleans what its errors show", function()
    local _, message = pcall(pattern.compile, ("a\27"):rep(5000) .. "..")
    assert.is_true(#message < 512)
    assert.is_nil(message:find("\27", 1, true))
  end)

  it("knows first and last from its context", function()
    local m = pattern.compile("layers.{first,last}", { first = 0, last = 31 })
    assert.is_true(m "model.layers.0.x")
    assert.is_true(m(LLAMA))
    assert.is_false(m "layers.30")
    assert.is_false(m "layers.first")
    local tail = pattern.compile("layers.{30-last,first-1}", { first = 0, last = 31 })
    for n, expected in pairs { [0] = true, [1] = true, [2] = false, [29] = false, [30] = true,
                               [31] = true, [32] = false } do
      assert.equal(expected, tail("layers." .. n))
    end
  end)

  it("matches nothing in a range whose named end lies before its start", function()
    local m = pattern.compile("layers.{4-last}", { first = 0, last = 2 })
    assert.is_false(m "layers.4")
    assert.is_false(m "layers.2")
    assert.is_false(pattern.compile("{first-last}", { first = 0, last = -1 })("0"))
  end)

  it("is compiled anew for another context", function()
    assert.is_true(pattern.compile("{last}", { last = 3 })("3"))
    assert.is_false(pattern.compile("{last}", { last = 4 })("3"))
    assert.is_true(pattern.compile("{last}", { last = 3 })("3"))
  end)

  it("refuses a context of anything but layer numbers", function()
    for _, context in ipairs { { last = 1.5 }, { last = "3" }, { 3 }, { last = -2 } } do
      assert.error_matches(function() pattern.compile("a", context) end, "layer numbers")
    end
  end)

  it("treats long names like short ones", function()
    local long = ("x"):rep(100000)
    assert.is_true(pattern.compile("a.*.b")("a." .. long .. ".b"))
    assert.is_false(pattern.compile("a*c.b")("a" .. long .. "." .. long))
    assert.is_true(pattern.compile("*a*b*c*")(long .. "a" .. long .. "b" .. long .. "c.x"))
    assert.is_true(pattern.compile("layers.{0-3}")(long .. ".layers.2." .. long))
    assert.is_false(pattern.compile("layers.{0-3}")(long .. ".layers.4." .. long))
  end)

  it("has no slow case", function()
    local started = os.clock()
    local hostile = ("a"):rep(200000)
    assert.is_false(pattern.compile("a*a*a*a*a*b")(hostile))
    assert.is_false(pattern.compile("a*b{2-3}")(("ab1"):rep(60000)))
    assert.is_false(pattern.compile("*a.*a.*a.*a.b")(("a."):rep(60000) .. "ab"))
    assert.is_true(os.clock() - started < 5) -- quadratic work would take minutes
  end)

  it("agrees with a naive matcher", function()
    -- Structures of segments of tokens: a letter, "*" or a set of numbers; "**" is a gap.
    local seed = 12345
    local function random(n)
      seed = (seed * 1103515245 + 12345) & 0x7fffffff
      return (seed >> 12) % n + 1
    end
    local function digit(text) return text:find "^%d$" ~= nil end

    local function number_end(s, i, set)
      if i > 1 and digit(s:sub(i - 1, i - 1)) then return nil end
      local j = i
      while digit(s:sub(j, j)) do j = j + 1 end
      return set[s:sub(i, j - 1)] and j or nil
    end
    local function naive_segment(s, i, tokens, t)
      local token = tokens[t]
      if not token then return i > #s end
      if token == "*" then
        for j = i, #s + 1 do
          if naive_segment(s, j, tokens, t + 1) then return true end
        end
        return false
      elseif type(token) == "table" then
        local j = number_end(s, i, token)
        return j ~= nil and naive_segment(s, j, tokens, t + 1)
      end
      return s:sub(i, i) == token and naive_segment(s, i + 1, tokens, t + 1)
    end
    local function naive(segments, i, wanted, w)
      if not wanted[w] then return true end
      if wanted[w] == "gap" then
        for j = i, #segments + 1 do
          if naive(segments, j, wanted, w + 1) then return true end
        end
        return false
      end
      return segments[i] ~= nil and naive_segment(segments[i], 1, wanted[w], 1)
        and naive(segments, i + 1, wanted, w + 1)
    end

    local function random_pattern()
      local wanted, texts = {}, {}
      for i = 1, random(3) do
        if random(4) == 1 then
          wanted[i], texts[i] = "gap", "*"
        else
          local tokens, text = {}, ""
          repeat
            local kind = random(6)
            local before = tokens[#tokens]
            if kind == 1 and before ~= "*" then
              tokens[#tokens + 1], text = "*", text .. "*"
            elseif kind == 2 and type(before) ~= "table" then
              tokens[#tokens + 1] = { ["1"] = true, ["2"] = true, ["12"] = true }
              text = text .. "{1-2,12}"
            else
              local letter = ("ab"):sub(random(2)):sub(1, 1)
              tokens[#tokens + 1], text = letter, text .. letter
            end
          until random(3) == 1
          if #tokens == 1 and tokens[1] == "*" then tokens = "gap" end
          wanted[i], texts[i] = tokens, text
        end
      end
      table.insert(wanted, 1, "gap")
      return wanted, table.concat(texts, ".")
    end
    local function random_name()
      local segments = {}
      for i = 1, random(4) do
        local text = ""
        for _ = 1, random(4) do
          local k = random(4)
          text = text .. ("ab12"):sub(k, k)
        end
        segments[i] = text
      end
      return segments
    end

    local matched, long = 0, ("z"):rep(300)
    for _ = 1, 2000 do
      local wanted, text = random_pattern()
      local matcher = pattern.compile(text)
      for _ = 1, 10 do
        local segments = random_name()
        local name = table.concat(segments, ".")
        local expected = naive(segments, 1, wanted, 1)
        if matcher(name) ~= expected then
          error(("'%s' on '%s': expected %s"):format(text, name, expected))
        end
        segments[#segments + 1] = long -- now the name takes the way for long names
        expected = naive(segments, 1, wanted, 1)
        if matcher(name .. "." .. long) ~= expected then
          error(("'%s' on '%s' made long: expected %s"):format(text, name, expected))
        end
        matched = matched + (expected and 1 or 0)
      end
    end
    assert.is_true(matched > 2000 and matched < 18000)
  end)
end)
