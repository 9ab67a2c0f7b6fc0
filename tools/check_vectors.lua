-- Checks that the kernels' hot loops are vectorised, by disassembly:
--
--   lua5.4 tools/check_vectors.lua BUILD [NAME...]
--
-- In every table of kernels that BUILD has (v3, v4, neon), each function listed below, or each NAME
-- instead, must have as many hot loops as its number says (NAME: one). A hot loop is an innermost
-- loop, or the body of a function without loops, that computes on vector registers of full width
-- (ymm, zmm, the 128 bits of v) at least three times as often as on single floating-point numbers.
-- Prints what it finds; the exit status is 1 when a kernel falls short. OBJDUMP names another
-- objdump.
local lfs = require "lfs"

-- To watch over another kernel, add it here; it must be a function that the compiler keeps: one of
-- the table's, or one that is marked noinline.
local kernels = {
  group_ranges = 3, column_ranges = 3, squared_error = 3, -- by type of the weights
  dequantize_groups = 5, dequantize_columns = 5, -- by kind of grid
  params_of = 10, zeros_on = 2, -- with one ratio and one each; params_of by kind of scale
  quantize_groups = 90, quantize_columns = 90, -- by both, kind of output, and way of dividing
  powers_of_two = 1, factored = 1, inverses = 1, try_ratios = 30, follow_run = 4, take_step = 1,
  pack_words = 6, largest_magnitude = 1,
  quantize_nibbles = 8, -- by kind of grid, with and without errors
  f64_to_f32 = 1, f64_from_f32 = 1, f16_to_f32 = 1, f16_from_f32 = 1, bf16_to_f32 = 1,
  bf16_from_f32 = 1, e4m3_to_f32 = 1, e4m3_from_f32 = 1, e5m2_to_f32 = 1, e5m2_from_f32 = 1,
  binary_f32 = 6, binary_f64 = 6, unary_f32 = 10, unary_f64 = 10, compare_f32 = 6, compare_f64 = 6,
  sum_f64 = 1, sum_squares_f64 = 1,
}

-- Kernels that a table does without: it has NULL in their place.
local absent = { neon = { quantize_nibbles = true } }

-- What tells vectors of full width, and single numbers, in an instruction's operands and name.
-- Loads, stores, moves and broadcasts are no arithmetic.
local function x86(register)
  return {
    moves = function(name) return name:find "^v?mov" or name:find "^vp?broadcast" end,
    wide = function(_, operands) return operands:find(register, 1, true) end,
    single = function(name)
      return name:find "^v?[^vp]%l+[1-3]*s[sd]$" or name:find "s[sd]2si$"
    end,
  }
end
local isas = {
  v3 = x86 "%ymm",
  v4 = x86 "%zmm",
  neon = {
    moves = function(name) return name:find "^f?mov" or name:find "^dup" end,
    wide = function(_, operands)
      return operands:find "v%d+%.16b" or operands:find "v%d+%.8h" or operands:find "v%d+%.4s"
        or operands:find "v%d+%.2d"
    end,
    single = function(name, operands) return name:find "^f" and operands:find "^[sd]%d" end,
  },
}

local function quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

-- The functions of an object: name -> list of instructions { at, name, operands, target }; target
-- is where a jump within the function goes.
local function functions_of(object)
  local objdump = os.getenv "OBJDUMP" or "objdump"
  local pipe = assert(io.popen(("%s -d --no-show-raw-insn %s"):format(objdump, quote(object))))
  local functions, current = {}, nil
  for line in pipe:lines() do
    local start = line:match "^%x+ <([^>]+)>:$"
    local at, name, operands = line:match "^%s*(%x+):%s+(%S+)%s*(.*)$"
    if start then
      current = { symbol = start }
      functions[start:match "^[^.]+"] = not start:find "%.cold" and current
        or functions[start:match "^[^.]+"]
    elseif at and current then
      local target, symbol = operands:match "(%x+) <([^>+]+)"
      current[#current + 1] = { at = tonumber(at, 16), name = name, operands = operands,
                                target = symbol == current.symbol and tonumber(target, 16) }
    end
  end
  assert(pipe:close(), objdump .. " failed")
  return functions
end

-- From where to where the innermost loops go: jumps backwards with no other such jump inside.
local function innermost(code)
  local loops = {}
  for _, i in ipairs(code) do
    if i.target and i.target <= i.at then
      local inside = false
      for _, loop in ipairs(loops) do
        inside = inside or loop.first >= i.target and loop.last <= i.at
      end
      if not inside then loops[#loops + 1] = { first = i.target, last = i.at } end
    end
  end
  if #loops == 0 then loops[1] = { first = code[1].at, last = code[#code].at } end
  return loops
end

local function is_hot(code, loop, isa)
  local wide, single = 0, 0
  for _, i in ipairs(code) do
    if i.at >= loop.first and i.at <= loop.last and not isa.moves(i.name) then
      if isa.single(i.name, i.operands) then single = single + 1
      elseif isa.wide(i.name, i.operands) then wide = wide + 1 end
    end
  end
  return wide > 0 and wide >= 3 * single
end

local function hot_loops(code, isa)
  local count = 0
  for _, loop in ipairs(innermost(code)) do
    if is_hot(code, loop, isa) then count = count + 1 end
  end
  return count
end

-- Prints what there is of each kernel in an object; returns how many fall short.
local function check(object, isa, wanted)
  local functions, short, names = functions_of(object), 0, {}
  for name in pairs(wanted) do
    if not (absent[isa] and absent[isa][name]) then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local code = functions[name]
    local found = code and hot_loops(code, isas[isa])
    local good = code and found >= wanted[name]
    if not good then short = short + 1 end
    print(("%-4s  %s: %s: %s"):format(good and "ok" or "FAIL", isa, name, not code
      and "there is no such function" or ("%d of %d hot loops"):format(found, wanted[name])))
  end
  return short
end

local build, wanted = arg[1], arg[2] and {} or kernels
for i = 2, #arg do wanted[arg[i]] = 1 end
local short, tables = 0, 0
for isa in pairs(isas) do
  local object = build .. "/CMakeFiles/kernels_" .. isa .. ".dir/src/kernels/table.c.o"
  if lfs.attributes(object) then
    tables = tables + 1
    short = short + check(object, isa, wanted)
  end
end
if tables == 0 then print("no tables of kernels with vectors in " .. build) end
os.exit(short == 0 and tables > 0)
