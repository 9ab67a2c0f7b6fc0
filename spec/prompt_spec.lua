-- The prompt without a terminal: evaluation, showing, completion, and the documentation.

local complete = require "rondo.prompt.complete"
local core = require "rondo.core"
local docs = require "rondo.prompt.docs"
local evaluate = require "rondo.prompt.evaluate"
local models = require "spec.support.models"
local rondo = require "rondo"
local session_of = require "rondo.prompt.session"
local show = require "rondo.prompt.show"

local function width() return 80 end

-- A small model: two layers, an embedding and a norm.
local function small_model()
  local folder = models.temporary()
  local tensors = { ["model.embed.weight"] = core.zeros { 4, 8 },
                    ["model.norm.weight"] = core.zeros { 8 } }
  for i = 0, 1 do
    for _, name in ipairs { "q_proj", "k_proj" } do
      tensors[("model.layers.%d.attn.%s.weight"):format(i, name)] = core.zeros { 8, 8 }
    end
  end
  local path = folder .. "/m.safetensors"
  assert(rondo.safetensors.save(path, tensors))
  return assert(rondo.open(path)), path
end

teardown(models.cleanup)

describe("a session", function()
  local session

  before_each(function() session = session_of.new(width) end)

  local function feed(...)
    local result
    for _, line in ipairs { ... } do result = session:feed(line) end
    return result
  end

  it("shows the values of expressions", function()
    assert.same({ text = "3" }, feed "1 + 2")
    assert.same({ text = '"ab"   true' }, feed "'a' .. 'b', true")
    assert.same({ text = "nil" }, feed "nil")
    assert.same({ text = "nil" }, feed "no_such_global")
    assert.same({}, feed "(function() end)()")
    assert.same({ text = "7" }, feed "7 -- seven")
  end)

  it("runs statements and shows nothing", function()
    finally(function() rawset(_G, "prompt_x", nil) end)
    assert.same({}, feed "prompt_x = 5")
    assert.equal(5, rawget(_G, "prompt_x"))
    assert.same({ text = "10" }, feed "prompt_x * 2")
    assert.same({}, feed "local y = 1")
    assert.same({}, feed "")
    assert.same({}, feed "  -- nothing")
  end)

  it("keeps silent behind a semicolon", function()
    assert.same({}, feed "1 + 2;")
    assert.same({ text = "3" }, feed "_")
    assert.same({}, feed "1 + 2 ;  ")
    assert.same({ text = '"a;"' }, feed '"a;"')
  end)

  it("keeps the last result in _", function()
    feed "6 * 7"
    feed "local z = 1"
    assert.same({ text = "43" }, feed "_ + 1")
  end)

  it("waits for the rest of a piece of input", function()
    assert.same({ more = true }, feed "(function()")
    assert.same({ more = true }, feed "return 1,")
    assert.same({ text = "1   2" }, feed "2 end)()")
    assert.same({ more = true }, feed "[[a")
    assert.same({ text = '"a\\nb"' }, feed "b]]")
    assert.same({ more = true }, feed "if true then")
    session:cancel()
    assert.same({ more = true }, feed "1 +")
    assert.same({ more = true }, feed "2 *")
    assert.same({ text = "7" }, feed "3")
    assert.truthy(feed "1 +;".error)
    assert.truthy(feed "1 + )".error)
    assert.same({ text = "1" }, feed "1")
  end)

  it("has the fields of rondo without their prefix, behind Lua's own", function()
    assert.same({ text = "f32 2   mean 0   std 0   |max| 0" }, feed "zeros { 2 }")
    assert.same({ text = "true" }, feed "rtn == rondo.rtn and table == require 'table'")
  end)

  it("says how a recipe of a file is given", function()
    session.env.m = small_model()
    assert.truthy(feed "plan(m, { recipe = 'mix.lua' })".error:find("dofile of a file", 1, true))
  end)

  it("tells errors in one line that names the call", function()
    assert.same({ error = "search_clip: the weight must be a tensor, not a number" },
      feed "rtn.search_clip(3)")
    assert.same({ error = "bad argument #1 to 'sum' (dimension 3 out of range "
      .. "(1 to 1, or -1 to -1 from the end))" }, feed "zeros{2}:sum(3)")
    assert.same({ error = "attempt to call a nil value (global 'nix')" }, feed "nix()")
    assert.same({ error = "a b" }, feed "error 'a\\nb'")
    assert.same({ error = "{ code = 3 }" }, feed "error { code = 3 }")
    assert.same({ error = "line 2: attempt to index a number value (local 'x')" },
      feed("do local x = 1", "x.y.z = 2 end"))
    assert.same({ error = "syntax error near 'b'" }, feed "a b")
  end)

  it("makes errors of what open, plan, quantize and compare return", function()
    local result = feed "x = open '/no/such/model'"
    assert.truthy(result.error:find "^open: /no/such/model: cannot be opened")
    assert.is_nil(rawget(_G, "x"))
    assert.truthy(feed("compare('/no/a', '/no/b')").error:find "/no/a")
  end)

  it("shows where the last error came from when asked", function()
    assert.same({ text = "no error yet" }, feed "trace()")
    feed "local function deep() error 'here' end deep()"
    local text = feed("trace()").text
    assert.truthy(text:find "here\nstack traceback:\n")
    assert.truthy(text:find "deep")
  end)

  it("names the function of a call that is the whole input", function()
    rawset(_G, "prompt_f", function() error("went wrong", 0) end)
    finally(function() rawset(_G, "prompt_f", nil) end)
    assert.same({ error = "prompt_f: went wrong" }, feed "prompt_f()")
  end)
end)

describe("evaluate", function()
  it("does not let an expression out of its brackets", function()
    local chunk = evaluate.compile("1) + (2", {})
    assert.is_nil(chunk)
  end)
end)

describe("showing", function()
  local function text(value, columns) return show.text(value, columns or 40) end

  it("is Lua's text for single values, quotes for strings", function()
    assert.equal("nil", text(nil))
    assert.equal("12", text(12))
    assert.equal("0.5", text(0.5))
    assert.equal('"a\\n\\"b\\"\\x1b[31m"', text 'a\n"b"\27[31m')
    assert.equal("null", text(rondo.json.null))
    assert.equal("function rondo.open(path [, options])", text(rondo.open))
    assert.equal("function (native)", text(string.len))
  end)

  it("puts short tables on a line", function()
    assert.equal("{}", text {})
    assert.equal("{ 1, 2, 3 }", text { 1, 2, 3 })
    assert.equal('{ 1, a = "x", ["b c"] = true }', text { 1, a = "x", ["b c"] = true })
    assert.equal("{ { 1 }, { 2 } }", text { { 1 }, { 2 } })
  end)

  it("fills lines with long lists, and cuts longer ones", function()
    local list = {}
    for i = 1, 120 do list[i] = i + 1000 end
    local lines = {}
    for line in text(list):gmatch "[^\n]+" do lines[#lines + 1] = line end
    assert.equal("{", lines[1])
    assert.equal("  1001, 1002, 1003, 1004, 1005, 1006,", lines[2])
    assert.equal("  ... 20 more", lines[#lines - 1])
    for _, line in ipairs(lines) do assert.truthy(#line <= 40, line) end
  end)

  it("limits depth, and does not run in circles", function()
    local value = { name = ("x"):rep(30), within = { name = ("y"):rep(30), within = {
      name = ("z"):rep(30), within = { name = ("t"):rep(30) } } } }
    local shown = text(value)
    assert.truthy(shown:find "zzz")
    assert.falsy(shown:find "ttt")
    assert.truthy(shown:find "within = { 1 value }")
    value.within.self = value
    assert.truthy(text(value):find("self = { (again) }", 1, true))
  end)

  it("shows lists of records as columns that fit", function()
    local list = { { name = "a", n = 1, note = ("x"):rep(40) }, { name = "bc", n = 23 } }
    assert.equal("name   n\na      1\nbc    23\n(also: note)", text(list))
    for i = 3, 30 do list[i] = { name = "r", n = i } end
    assert.truthy(text(list):find "%.%.%. 10 more")
  end)

  it("is a summary for plans, reports and comparisons", function()
    local model, out = small_model(), models.temporary() .. "/q"
    local report = assert(rondo.quantize(model, out))
    local no_error = "relative error 0, SNR inf dB, MSE 0" -- zeros
    assert.matches("^report: fake\n  4 of 6 tensors quantized: " .. no_error .. "\n  %S+ kB %-> ",
                   show.text(report))
    local comparison = assert(rondo.compare(model, out))
    assert.equal("comparison\n  4 layers: " .. no_error .. "\n  2 of 2 other tensors are identical",
                 show.text(comparison))
    table.insert(comparison.only_a, { name = "x", what = "layer" })
    assert.matches("\n  only in A: 1$", show.text(comparison))
    assert.matches("^plan for ", show.text(assert(rondo.plan(model))))
  end)

  it("asks values that print themselves", function()
    local made = setmetatable({}, { __tostring = function() return "myself" end })
    assert.equal("myself", text(made))
    assert.equal("{ a = myself }", text { a = made })
    assert.equal("f32 2x2   mean 0   std 0   |max| 0", text(core.zeros { 2, 2 }))
  end)

  it("is a text that prints itself in rondo.show", function()
    local shown = rondo.show({ 1, 2 }, 80)
    assert.equal("{ 1, 2 }", tostring(shown))
    assert.equal("<{ 1, 2 }>", "<" .. shown .. ">")
    assert.equal(8, #shown)
  end)
end)

describe("completion", function()
  local env, own, session, folder

  setup(function()
    session = session_of.new(width)
    env, own = session.env, session.own
    local model, path = small_model()
    folder = path:match "^(.*)/"
    rawset(_G, "prompt_m", model)
    rawset(_G, "prompt_t", { alpha = { beta = core.zeros { 2 } }, alp = 1, ["not a name"] = 2 })
  end)

  teardown(function()
    rawset(_G, "prompt_m", nil)
    rawset(_G, "prompt_t", nil)
  end)

  -- What the text becomes, and the candidates.
  local function completed(text)
    local start, replacement, found = complete.at_end(text, env, own)
    return text:sub(1, start - 1) .. replacement, found
  end

  it("knows globals, keywords and rondo's fields", function()
    assert.equal("tostring", completed "tostri")
    assert.equal("x = whi" .. "le", completed "x = whi")
    assert.equal("search = arange", completed "search = aran")
    assert.equal("trace", completed "trac")
    assert.equal("", (completed ""))
    assert.equal("no_such_", (completed "no_such_"))
  end)

  it("knows fields of tables", function()
    local text, found = completed "prompt_t.al"
    assert.equal("prompt_t.alp", text)
    assert.same({ "alp", "alpha" }, found)
    assert.equal("f(prompt_t.alpha.beta", completed "f(prompt_t.alpha.b")
    assert.equal("string.format", completed "string.forma")
    assert.equal("rondo.rtn.search_clip", completed "rondo.rtn.se")
    assert.equal("rtn.search_clip", completed "rtn.se")
  end)

  it("knows methods of tensors and models", function()
    assert.equal("prompt_t.alpha.beta:reshape", completed "prompt_t.alpha.beta:resh")
    assert.equal('prompt_t["alpha"].beta:argm', (completed 'prompt_t["alpha"].beta:argm'))
    assert.same({ "argmax", "argmin" }, select(2, completed "prompt_t.alpha.beta:argm"))
    assert.equal("prompt_m:tied_to", completed "prompt_m:ti")
    assert.equal("prompt_m.quantization", completed "prompt_m.quanti")
  end)

  it("completes names of tensors segment by segment", function()
    local text, found = completed 'prompt_m["mod'
    assert.equal('prompt_m["model.', text)
    assert.same({ "model.embed.weight", "model.layers.", "model.norm.weight" }, found)
    assert.equal('prompt_m["model.layers.', completed 'prompt_m["model.la')
    assert.equal('prompt_m["model.norm.weight"]', completed 'prompt_m["model.n')
    assert.equal("w = prompt_m['model.layers.0.attn.q_proj.weight']",
      completed "w = prompt_m['model.layers.0.attn.q")
    assert.equal('prompt_m["layers.1.attn.k_proj.weight"]', completed 'prompt_m["layers.1.attn.k')
    assert.equal('prompt_m:info("model.embed.weight"', completed 'prompt_m:info("model.e')
    assert.equal('prompt_m:layer "model.layers.0.attn.k_proj"',
      completed 'prompt_m:layer "model.layers.0.attn.k')
    assert.equal('prompt_m["model.norm.weight"]', completed "prompt_m.norm")
  end)

  it("completes names of files in other strings", function()
    assert.equal(('open "%s/m.safetensors"'):format(folder), completed('open "' .. folder .. "/m"))
    assert.equal(("x = [[%s/m.safetensors]]"):format(folder), completed("x = [[" .. folder .. "/m"))
    assert.equal('open "/no/such/f', completed 'open "/no/such/f')
  end)

  it("keeps out of comments and finished strings", function()
    assert.equal("-- tostri", (completed "-- tostri"))
    assert.equal('x = "a\\"b" .. tostring', completed 'x = "a\\"b" .. tostri')
  end)

  it("calls nothing of the user's", function()
    rawset(_G, "prompt_trap", setmetatable({}, { __index = function() error "called" end,
                                                 __pairs = function() error "called" end }))
    finally(function() rawset(_G, "prompt_trap", nil) end)
    assert.has_no.errors(function() completed "prompt_trap.a" completed "prompt_trap.a.b" end)
  end)

  it("is laid out in columns", function()
    assert.same({ "a    ccc", "bb" }, complete.columns({ "a", "bb", "ccc" }, 9))
    assert.same({ "a", "bb", "ccc" }, complete.columns({ "a", "bb", "ccc" }, 4))
  end)
end)

-- ---- The documentation ----

-- The upvalue of that name of a function.
local function upvalue(f, wanted)
  for i = 1, 60 do
    local name, value = debug.getupvalue(f, i)
    if not name then break end
    if name == wanted then return value end
  end
  error("no upvalue " .. wanted)
end

local function keys(...)
  local names = {}
  for _, source in ipairs { ... } do
    for name in pairs(source) do names[name] = true end
  end
  return names
end

-- Methods and fields of a documented class, its parents' included.
local function documented(name)
  local methods, fields, class = {}, {}, docs.load().classes[name]
  assert(class, name)
  while class do
    docs.each_method(class, function(entry) methods[entry.name:match ":(.*)$"] = true end)
    for _, field in ipairs(class.fields) do fields[field.name] = true end
    class = class.parent and docs.load().classes[class.parent]
  end
  return methods, fields
end

describe("the documentation", function()
  local known = docs.load()
  local model

  setup(function() model = small_model() end)

  it("has all of rondo and of its modules, with a text", function()
    local modules = keys(upvalue(debug.getmetatable(rondo).__index, "modules"))
    local paths = { rondo = rondo }
    for name in pairs(modules) do paths["rondo." .. name] = rondo[name] end
    local missing = {}
    for path, module in pairs(paths) do
      for name, value in pairs(module) do
        local full = path .. "." .. name
        local class, is_field = docs.class_at(path), false
        for _, field in ipairs(class.fields) do is_field = is_field or field.name == name end
        local there = type(value) == "function" and known.functions[full]
          or paths[full] and docs.class_at(full) or known.values[full] or is_field
        if not there then missing[#missing + 1] = full end
      end
    end
    assert.same({}, missing)
    for _, list in ipairs { known.functions, known.values } do
      for _, entry in ipairs(list) do assert(#entry.text > 0, entry.name .. " has no text") end
    end
  end)

  it("loses no line of the annotations", function()
    local texts = {}
    for _, list in ipairs { known.functions, known.values, known.classes } do
      for _, entry in ipairs(list) do
        table.move(entry.text, 1, #entry.text, #texts + 1, texts)
        for _, field in ipairs(entry.fields or {}) do texts[#texts + 1] = field.text end
      end
    end
    local all, lost = table.concat(texts, "\n"), {}
    for text in require("rondo.library"):gmatch "\n%-%-%-([^@\n][^\n]*)" do
      if not all:find(text, 1, true) then lost[#lost + 1] = text end
    end
    assert.same({}, lost)
  end)

  it("has nothing that is not there", function()
    for _, entry in ipairs(known.functions) do
      if not entry.class then
        assert.equal("function", type(docs.resolve(entry.name)), entry.name)
      end
    end
    for _, entry in ipairs(known.values) do
      assert.not_nil(docs.resolve(entry.name), entry.name)
    end
    for _, class in ipairs(known.classes) do
      if class.path then assert.equal("table", type(docs.resolve(class.path)), class.path) end
    end
  end)

  it("has the parameters of Lua functions in their order", function()
    for _, entry in ipairs(known.functions) do
      local f = not entry.class and docs.resolve(entry.name)
      local about = f and debug.getinfo(f, "uS")
      if about and about.what == "Lua" then
        assert(#entry.params <= about.nparams, entry.name .. ": too many parameters")
      end
    end
  end)

  -- Both ways: what the sets hold is documented, and nothing else is.
  local function holds(class, methods, fields)
    local own_methods, own_fields = documented(class)
    assert.same(methods, own_methods)
    if fields then assert.same(fields, own_fields) end
  end

  it("has all methods and fields of tensors", function()
    local _, methods = debug.getupvalue(debug.getmetatable(core.zeros { 1 }).__index, 1)
    holds("rondo.tensor", keys(methods), { shape = true, dtype = true, rank = true, nbytes = true })
  end)

  it("has all methods and fields of models", function()
    local index = debug.getmetatable(model).__index
    holds("rondo.model", keys(upvalue(index, "methods")),
      keys(upvalue(index, "lazy"), upvalue(index, "optional"), { path = 1, checkpoint = 1 }))
  end)

  it("has all methods and fields of layers", function()
    local _, layer = model:layers()()
    local index = debug.getmetatable(layer).__index
    holds("rondo.layer", keys(upvalue(index, "methods")),
      keys(upvalue(index, "lazy"), upvalue(index, "optional"), layer))
  end)

  it("has all methods of checkpoints and matchers", function()
    holds("rondo.checkpoint", keys(debug.getmetatable(model.checkpoint).__index))
    local matcher = rondo.pattern.compile "a"
    holds("rondo.matcher", keys(debug.getmetatable(matcher).__index), keys(matcher))
  end)

  it("has fields that plans, reports and comparisons have", function()
    local plan = assert(rondo.plan(model))
    local out = models.temporary()
    local report = assert(rondo.quantize(model, out .. "/q"))
    local comparison = assert(rondo.compare(model, out .. "/q"))
    for name, value in pairs { plan = plan, report = report, comparison = comparison } do
      local _, fields = documented("rondo." .. name)
      for field in pairs(fields) do
        local there = value[field] ~= nil
        local needs_folder = field == "left_files" -- of a model in a folder
        assert(there or needs_folder, ("a %s has no field %s"):format(name, field))
      end
    end
  end)

  it("has all options", function()
    local w, out = core.zeros { 2, 2 }, models.temporary() .. "/q"
    local calls = {
      ["rondo.open.options"] = function(o) rondo.open(model.path, o) end,
      ["rondo.plan.options"] = function(o) rondo.plan(model, o) end,
      ["rondo.quantize.options"] = function(o) rondo.quantize(model, out, o) end,
      ["rondo.save.options"] = function(o) model:save(out, o) end,
      ["rondo.map.options"] = function(o) model:map(print, o) end,
      ["rondo.policy.budget.options"] = function(o) rondo.policy.budget(o) end,
      ["rondo.rtn.rtn_quantize.options"] = function(o) rondo.rtn.rtn_quantize(model, o) end,
      ["rondo.plot.options"] = function(o) rondo.plot.sparkline({ 1 }, o) end,
      ["rondo.plot.histogram.options"] = function(o) rondo.plot.histogram({ 1 }, o) end,
      ["rondo.plot.line.options"] = function(o) rondo.plot.line({ 1 }, o) end,
      ["rondo.plot.heat.options"] = function(o) rondo.plot.heat(w, o) end,
    }
    for _, name in ipairs { "quantize_4bit", "qdq_weight_asym", "qdq_weight_sym",
                            "qdq_weight_actor", "quant_weight", "search_clip" } do
      calls["rondo.rtn." .. name .. ".options"] = function(o) rondo.rtn[name](w, o) end
    end
    for _, class in ipairs(known.classes) do
      if class.name:find "%.options$" then
        local call = assert(calls[class.name], class.name .. " is not tried")
        local good, message = pcall(call, { no_such_option = 1 })
        local list = not good and message:match "%(known: (.*)%)"
        assert(list, class.name .. ": " .. tostring(message))
        local names, _, fields = {}, documented(class.name)
        for option in list:gmatch "[%w_]+" do names[option] = true end
        assert.same(names, fields, class.name)
      end
    end
  end)
end)

describe("help", function()
  local function help(what) return tostring(rondo.help(what)) end

  it("tells about functions and names", function()
    assert.truthy(help(rondo.open):find("^rondo.open%(path %[, options%]%)\n  Opens a model"))
    assert.equal(help(rondo.open), help "open")
    assert.equal(help(rondo.open), help "rondo.open")
    assert.truthy(help "budget":find "^rondo.policy.budget%(")
    assert.truthy(help "hist":find "^rondo.tensor:hist%(")
    assert.truthy(help "loss":find "scheme:loss", help "loss")
    assert.truthy(help "loss":find "recipe.layer:loss", help "loss")
    assert.truthy(help "tensor:sum":find "^rondo.tensor:sum%(%[dim%] %[, options%]%)")
    assert.equal(help "tensor:sum", help(core.zeros({ 1 }).sum))
    assert.equal(help "scheme:loss", help(rondo.int4.loss))
    local m = small_model()
    local objects = { model = m, layer = select(2, m:layers()()),
                      matcher = rondo.pattern.compile "a", checkpoint = m.checkpoint,
                      quantized = rondo.int4:quantize(core.zeros { 2, 2 }) }
    assert(rondo.plan(m, { recipe = rondo.recipe {
      { function(of_recipe) objects["recipe.layer"] = of_recipe end, rondo.int4 },
      otherwise = rondo.keep,
    } }))
    for _, entry in ipairs(docs.load().functions) do
      local class, method = entry.name:match "^rondo%.([%w_.]+):(.*)$"
      if objects[class] then
        assert.equal(help(class .. ":" .. method), help(objects[class][method]), entry.name)
      end
    end
    assert.truthy(help(m.map):find "^rondo.model:map%(")
    assert.truthy(help(m.checkpoint):find "^rondo.checkpoint\n")
    assert.truthy(help(objects["recipe.layer"].loss):find "^rondo.recipe.layer:loss%(")
    assert.truthy(help(assert(rondo.plan(m))):find "^rondo.plan\n")
    assert.truthy(help(rondo.int4):find "as the reference%s+does%), or one of rondo.clip")
    assert.truthy(help(rondo.clip.signed):find(help "clip.signed", 1, true))
    assert.truthy(help(rondo.clip.neighbours):find(help "neighbours", 1, true))
    assert.truthy(help(rondo.clip.signed):find("\nrondo.strategy", 1, true))
    assert.truthy(help(rondo.quantize):find "\n  overwrite  +replace an existing folder")
    assert.truthy(help(rondo.quantize):find "\n  bits  +1 to 16")
  end)

  it("tells about objects and modules", function()
    assert.truthy(help(core.zeros { 1 }):find "\n  :reshape%(shape%)")
    assert.truthy(help((small_model())):find "\n  :layers%(%[kind%]%)")
    assert.truthy(help(rondo.rtn):find "\n  rtn.search_clip%(")
    assert.equal(help(), help(rondo))
  end)

  it("says when there is nothing", function()
    assert.equal("no documentation for 'opne'; did you mean 'rondo.open'?", help "opne")
    assert.truthy(help(function() end):find "no documentation")
    assert.equal("no documentation for a value of type number", help(3))
  end)
end)
