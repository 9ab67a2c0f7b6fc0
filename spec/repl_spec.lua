-- `rondo repl` as users run it: from a pipe, and on a pseudo-terminal.

local command = require "spec.support.command"
local core = require "rondo.core"
local lfs = require "lfs"
local rondo = require "rondo"
local shell = require "spec.support.shell"

local folder

setup(function() folder = shell.temporary_folder() end)
teardown(function() shell.remove(folder) end)

describe("rondo repl from a pipe", function()
  local function repl(input, ...)
    return command.run({ "repl", ... }, { input = input })
  end

  it("prints the results and nothing else", function()
    assert.same({ 0, "2\n{ 2, 3 }\n", "" }, { repl "1 + 1\nx = 5\nzeros({2,3}).shape\n" })
    assert.same({ 0, "", "" }, { repl "" })
  end)

  it("takes statements of several lines, and a last line without its end", function()
    assert.same({ 0, "1\n2\n", "" }, { repl "for i = 1, 2 do\nprint(i)\nend" })
  end)

  it("ends at the first error, with exit code 1", function()
    local code, out, err = repl "print 'a'\nnix()\nprint 'b'\n"
    assert.same({ 1, "a\n", "rondo: attempt to call a nil value (global 'nix')\n" },
      { code, out, err })
  end)

  it("wants whole statements", function()
    local code, _, err = repl "for i = 1, 2 do\n"
    assert.same({ 1, "rondo: the input ends within a statement\n" }, { code, err })
  end)

  it("opens MODEL as m", function()
    local path = folder .. "/m.safetensors"
    assert(rondo.safetensors.save(path, { ["a.weight"] = core.zeros { 2, 2 } }))
    local code, out = repl('m["a.weight"]\n', path)
    assert.same({ 0, "f32 2x2   mean 0   std 0   |max| 0\n" }, { code, out })
    local failed, _, err = repl("m\n", folder .. "/none")
    assert.equal(1, failed)
    assert.truthy(err:find "^rondo: .*/none: cannot be opened")
  end)

  it("lets os.exit say the exit code", function()
    assert.equal(7, (repl "os.exit(7)\n"))
  end)
end)

-- What is typed in the screens of a page, and what they show below; without what needs a terminal.
local function screens(path)
  local typed, shown, skipped = {}, {}, false
  for line in io.lines(path) do
    local input, text = line:match "^ *    > (.*)$", line:match "^    (.*)$"
    if input then
      skipped = input:find "1e6" or input:find "bits = 3 }%)$" and not input:find "num_bits"
        or input:find "%.$" or input:find "%(Tab%)$"
      if not skipped then typed[#typed + 1] = input end
    elseif not text and line ~= "" then
      skipped = true
    elseif line ~= "" and not skipped then
      shown[#shown + 1] = text
    end
  end
  return table.concat(typed, "\n"), table.concat(shown, "\n")
end

describe("the screens of the documentation", function()
  local model

  setup(function()
    model = folder .. "/model"
    local code, _, err = command.run { "run", "examples/make_model.lua", model }
    assert.equal(0, code, err)
  end)

  for _, path in ipairs { "docs/prompt.md", "README.md" } do
    it("in " .. path .. " are what happens", function()
      local typed, shown = screens(path)
      assert.truthy(#typed > 100)
      local code, out, err = command.run({ "repl", model },
        { input = typed .. "\n", prefix = "LC_ALL=C.UTF-8" })
      assert.same({ 0, "" }, { code, err })
      assert.equal(shown, (out:gsub("%s*\n", "\n"):gsub("\n+", "\n"):gsub("\n$", "")))
    end)
  end
end)

describe("rondo repl on a terminal", function()
  local terminal

  setup(function()
    terminal = folder .. "/terminal"
    local text, status = shell.sh("unset LD_PRELOAD\ncc -std=c11 -Wall -Wextra -Werror "
      .. "spec/support/terminal.c -o %s", terminal)
    assert.equal(0, status, text)
  end)

  -- Types the lines of a script (see spec/support/terminal.c); returns the exit code and all that
  -- was on the terminal.
  local function converse(script, o)
    o = o or {}
    shell.write_file(folder .. "/script", script)
    local text, status = shell.sh("cd %s && env TERM=%s HOME=%s XDG_STATE_HOME= LANG=C.UTF-8 "
      .. "%s %s/script %s repl", folder, o.term or "xterm", folder, terminal, folder,
      command.program())
    return status, (text:gsub("\r", ""))
  end

  local has_editing = core.editor() ~= nil

  local function edited(name, f)
    it(name, function()
      if not has_editing then return pending "there is no libedit" end
      f()
    end)
  end

  it("greets, shows results and errors, and goes on", function()
    local code, text = converse [[
e >
s 1 + 1\n
e 2
s nix()\n
e error: attempt to call a nil value (global 'nix')
s 6 * 7\n
e 42
e >\x20
s \x04
]]
    assert.equal(0, code, text)
    assert.truthy(text:find "help%(%) says what there is")
  end)

  it("works without editing on a dumb terminal", function()
    local code, text = converse([[
e >
s "a" .. "b" .. "c"\n
e "abc"
e >\x20
s \x04
]], { term = "dumb" })
    assert.equal(0, code, text)
  end)

  -- Each of these would run for many seconds; the marks tell that it has begun.
  for what, code in pairs {
    ["a kernel on one thread"] = 'x = randn({ 1 << 29 }, 0, "f8_e4m3")',
    ["a kernel on all threads"] =
      'x = zeros({ 1 << 26 }, "f8_e4m3"); for i = 1, 100 do x = x:exp():log() end x = i',
    ["a loop in Lua"] = "while true do end",
    ["a loop in a coroutine"] = "coroutine.wrap(function() while true do end end)()",
    ["a coroutine that catches errors"] =
      "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
    ["loops that catch errors again and again"] =
      "while true do pcall(function() while true do end end) end",
    ["a loop that catches errors"] = "while true do pcall(string.rep, 'x', 10) end",
  } do
    it("stops " .. what .. " with Ctrl-C, and lives on", function()
      local status, text = converse(([[
e >
s print("be" .. "gun") %s\n
e begun
p 300
s \x03
e interrupted
s 6 * 7\n
e 42
s \x03
s "still" .. " here"\n
e "still here"
e >\x20
s \x04
]]):format(code))
      assert.equal(0, status, text)
    end)
  end

  it("dies of SIGTERM, also while it waits for input", function()
    local status, text = converse "e > \nk TERM\n"
    assert.equal(128 + 15, status, text)
  end)

  edited("gives up a line, and an unfinished statement, with Ctrl-C", function()
    local code, text = converse [[
e >\x20
s for i = 1, 2 do\n
e >>\x20
s print(i)\x03
e ^C
s "ok" .. "ay"\n
e "okay"
e >\x20
s \x04
]]
    assert.equal(0, code, text)
  end)

  edited("completes with Tab", function()
    local code, text = converse [[
e >\x20
s tostri\t(12) .. "!"\n
e "12!"
s rondo.rtn.qdq_weight_\t
e qdq_weight_actor
e qdq_weight_sym
s \x03
e ^C
s "scr\t .. "!"\n
e "script!"
e >\x20
s \x04
]]
    assert.equal(0, code, text)
  end)

  edited("remembers lines in a file that nobody else reads", function()
    local code, text = converse [[
e >\x20
s "first" .. " line"\n
e "first line"
e >\x20
s \x04
]]
    assert.equal(0, code, text)
    local state = folder .. "/.local/state/rondo/history"
    assert.equal("rw-------", lfs.attributes(state, "permissions"))
    code, text = converse [[
e >\x20
s \x1b[A
e "first" .. " line"
s \n
e "first line"
e >\x20
s \x04
]]
    assert.equal(0, code, text)
  end)
end)
