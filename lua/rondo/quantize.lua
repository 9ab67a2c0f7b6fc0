-- quantize: a model in, a quantized checkpoint out. The plan says what; this carries it out, file
-- by file, writes the side files and the report, and publishes the folder as a whole or not at all.

local config_of = require "rondo.model.config"
local core = require "rondo.core"
local execute = require "rondo.execute"
local json = require "rondo.json"
local lfs = require "lfs"
local options = require "rondo.options"
local plan_of = require "rondo.plan"
local report_of = require "rondo.report"
local tensors = require "rondo.formats.tensors"

local quantize = {}

-- ---- Side files ----

-- Weights in other formats than safetensors are not copied: they would not be quantized.
local weight_files = { safetensors = true, bin = true, pt = true, pth = true, h5 = true,
                       gguf = true, onnx = true, msgpack = true, ot = true, npz = true,
                       ckpt = true }
local LARGEST_SIDE_FILE = 100 * 1000 * 1000
local own_files = { ["config.json"] = true, ["model.safetensors.index.json"] = true,
                    ["rondo-report.json"] = true }

-- Names of the model folder's small files that go along, and of the files left behind. What files
-- say of the source's quantization holds for a copy alone.
local function side_files(made)
  local model, copied, left, own = made.model, {}, {}, {}
  local folder = model.folder
  for _, file in ipairs(model.checkpoint:files()) do own[file.path:match("[^/]+$")] = true end
  for _, name in ipairs(made.options.copy and {} or config_of.quantization_files) do
    own[name] = true
  end
  for name in lfs.dir(folder) do
    local path = folder .. "/" .. name
    local kind = name:sub(1, 1) ~= "." and lfs.attributes(path, "mode")
    local extension = name:match("%.([%w_]+)$") or ""
    if kind == "file" and not own_files[name] and not own[name] then
      local small = lfs.attributes(path, "size") <= LARGEST_SIDE_FILE
      if weight_files[extension] or name:match("%.index%.json$") or not small then
        left[#left + 1] = name
      else
        copied[#copied + 1] = name
      end
    end
  end
  table.sort(copied)
  table.sort(left)
  return copied, left
end

local function read_file(path)
  local file, message = io.open(path, "rb")
  if not file then return nil, message, "io" end
  local text, why = file:read("a")
  file:close()
  if not text then return nil, path .. ": " .. tostring(why), "io" end
  return text
end

local BLOCK = 1000 -- pieces written at once

-- Writes a file of many pieces of text: produce(emit) calls emit with one after the other, always
-- the same. A file's size is told before it is written, so they are made twice rather than kept.
local function write_pieces(out, name, produce)
  local size, at, block = 0, 0, {}
  produce(function(piece) size = size + #piece end)
  local file <close>, message, code = out:file(name, size)
  if not file then return nil, message, code end
  local done = true
  local function flush()
    local text = table.concat(block)
    if done then done, message, code = file:write(at, text) end
    at, block = at + #text, {}
  end
  produce(function(piece)
    block[#block + 1] = piece
    if #block == BLOCK then flush() end
  end)
  flush()
  if not done then return nil, message, code end
  return file:close()
end

-- The source's config.json, "{}" where it has none, and whether it has one; or nil, message, code.
local function source_config(made)
  local path = made.model.folder and made.model.folder .. "/config.json"
  if not path or lfs.attributes(path, "mode") ~= "file" then return "{}\n", false end
  local text, message, code = read_file(path)
  if not text then return nil, message, code end
  return text, true
end

local function without_keys(text)
  local message, code
  for _, key in ipairs(config_of.quantization_keys) do
    text, message, code = json.splice(text, key, nil)
    if not text then return nil, message, code end
  end
  return text
end

-- What config.json, or the part of it for the language model, says of a quantization other than the
-- format's is the source's and holds no more.
local function without_quantization(made, text)
  if made.options.copy or not made.model.quantization then return text end
  local message, code
  text, message, code = without_keys(text)
  for _, part in ipairs(config_of.inner) do
    if not text then return nil, message, code end
    if type(made.model.config[part]) == "table" then
      local before, behind = json.place(text, part)
      local inner
      inner, message, code = without_keys(text:sub(#before + 1, -#behind - 1))
      text = inner and before .. inner .. behind
    end
  end
  return text, message, code
end

-- A member that a function writes stands in place of the text between those two.
local function write_member(out, text, key, write)
  local before, behind, margin = json.place(text, key)
  if not before then return nil, behind, margin end
  return write_pieces(out, "config.json", function(emit)
    emit(before)
    write(margin or "", emit)
    emit(behind)
  end)
end

-- Writes config.json: the source's bytes, with the members that the format adds.
local function write_config(made, out)
  local text, has_config, code = source_config(made)
  if not text then return nil, has_config, code end
  local some = made.totals.quantized > 0
  local members = some and made.format.config and made.format.config(made) or {}
  if #members == 0 and not has_config then return true end
  local message
  text, message, code = without_quantization(made, text)
  for _, member in ipairs(members) do
    if not text then return nil, message, code end
    local key, value = member[1], member[2]
    if type(value) == "function" then return write_member(out, text, key, value) end -- the only one
    text, message, code = json.splice(text, key, value)
  end
  if not text then return nil, message, code end
  return out:write("config.json", text)
end

-- Writes what a format has beside config.json.
local function write_format_files(made, out)
  local files = made.totals.quantized > 0 and made.format.files and made.format.files(made) or {}
  for _, file in ipairs(files) do
    local done, message, code = out:write(file[1], file[2])
    if not done then return nil, message, code end
  end
  return true
end

-- ---- Weights ----

-- Writes a rectangle row by row.
local function write_rows(file, e, tensor, row, col)
  local _, cols = tensors.matrix(e)
  for i = 1, tensor.shape[1] do
    local at = e.offset + ((row + i - 2) * cols + col - 1) * e.size
    local done, message, code = file:write(at, tensor:rows(i, i))
    if not done then return nil, message, code end
  end
  return true
end

local PANEL = 16 * 1024 * 1024 -- bytes

-- Whole columns that come one after the other, of what is stored transposed, are put together in
-- panels, so that not every few bytes of a row are written alone.
local function put_columns(file, panels, e, tensor, col)
  local rows, cols = tensors.matrix(e)
  local width, panel = tensor.shape[2], panels[e]
  if not panel then
    local fit = math.max(PANEL // (rows * e.size) // width * width, width)
    panel = { first = col, filled = 0, all = core.zeros({ rows, math.min(fit, cols - col + 1) },
                                                        e.dtype) }
    panels[e] = panel
  end
  panel.all[(":, %d:%d"):format(panel.filled + 1, panel.filled + width)] = tensor
  panel.filled = panel.filled + width
  if panel.filled < panel.all.shape[2] and panel.first + panel.filled <= cols then return true end
  panels[e] = nil
  if panel.all.shape[2] == cols then return file:queue(e.offset, panel.all) end
  return write_rows(file, e, panel.all, 1, panel.first)
end

-- put and put_bytes of rondo.execute for an open output file. advance(bytes) hears how much of an
-- entry has been written.
local function file_sink(file, advance)
  local panels = {}
  local function put(e, tensor, row, col)
    advance(tensor.nbytes)
    local rows, cols = tensors.matrix(e)
    local height, width = tensor.shape[1], tensor.shape[2]
    if height == rows and width < cols then return put_columns(file, panels, e, tensor, col) end
    local at = e.offset + ((row - 1) * cols + col - 1) * e.size
    if width == cols or height == 1 then return file:queue(at, tensor:contiguous()) end
    return write_rows(file, e, tensor, row, col)
  end
  local function put_bytes(e, tensor, offset)
    advance(tensor.nbytes)
    return file:queue(e.offset + offset, tensor)
  end
  return put, put_bytes
end

local LARGE = 16 * 1024 * 1024 -- bytes

-- The header may be as large as all else that is kept, too large to wait for the collector's pace.
local function write_header(made, shard, file)
  local header, message, code = core.safetensors_header(plan_of.each_output(made, shard),
                                                        made.metadata)
  if not header then return nil, message, code end
  local large = header.nbytes > LARGE
  header, message, code = file:write(0, header)
  if large then collectgarbage() end
  return header, message, code
end

-- Writes one shard; calls advance(job, bytes) after each piece, finished(number, job, result) after
-- each job.
local function write_shard(made, shard, out, advance, finished)
  local file, message, code = out:file(shard.name, shard.size)
  if not file then return nil, message, code end
  local done
  done, message, code = write_header(made, shard, file)
  if not done then return nil, message, code end
  local current
  local put, put_bytes = file_sink(file, function(bytes) advance(current, bytes) end)
  local function tick() advance(current, 0) end
  local keep = made.options.nonfinite == "keep"
  for i = shard.first, shard.last do
    current = plan_of.job(made, i)
    local result
    result, message, code = execute.job(current, made.model.checkpoint, keep, put, put_bytes, tick)
    if not result then return nil, message, code end
    finished(i, current, result)
  end
  return file:close()
end

-- Turns bytes written of a job into bytes of the source, and tells progress(done, total, name).
local function progress_counter(made, progress)
  local finished_bytes, written, total = 0, 0, made.totals.tensor_bytes
  local function advance(job, bytes)
    written = written + bytes
    if not progress or written >= job.after then return end
    progress(finished_bytes + job.before * written // job.after, total, job.name)
  end
  local function finish(job)
    finished_bytes, written = finished_bytes + job.before, 0
    if progress then progress(finished_bytes, total, job.name) end
  end
  return advance, finish
end

-- Writes all weight files; returns what report.make wants of the quantized layers.
local function write_weights(made, out, progress)
  local results = report_of.results(made)
  local advance, finish = progress_counter(made, progress)
  local function finished(i, job, result)
    if job.action == "quantize" then results:add(i, result) end
    finish(job)
  end
  for _, shard in ipairs(made.shards) do
    local done, message, code = write_shard(made, shard, out, advance, finished)
    if not done then return nil, message, code end
  end
  return results
end

local function write_side_files(made, out, report)
  local done, message, code = write_config(made, out)
  if done then done, message, code = write_format_files(made, out) end
  for _, name in ipairs(report.copied_files) do
    if not done then return nil, message, code end
    done, message, code = out:copy(name, made.model.folder .. "/" .. name)
  end
  if done and #made.shards > 1 then
    done, message, code = write_pieces(out, "model.safetensors.index.json",
                                       function(emit) plan_of.write_index(made, emit) end)
  end
  if not done then return nil, message, code end
  return write_pieces(out, "rondo-report.json",
                      function(emit) report_of.write(report, emit) end)
end

-- ---- The whole ----

local function inputs_of(model)
  local list = { model.folder }
  for _, file in ipairs(model.checkpoint:files()) do list[#list + 1] = file.path end
  return list
end

-- Everything between a fresh output folder and its publication.
local function fill(made, out, progress)
  local results, message, code = write_weights(made, out, progress)
  if not results then return nil, message, code end
  local report = report_of.make(made, results)
  if made.model.folder then
    local copied, left = side_files(made)
    report.copied_files, report.left_files = json.array(copied), json.array(left)
  end
  local done
  done, message, code = write_side_files(made, out, report)
  if not done then return nil, message, code end
  done, message, code = made.model.checkpoint:check()
  if not done then return nil, message, code end
  done, message, code = out:publish()
  if not done then return nil, message, code end
  return report
end

-- Options of both functions below.
local save_description = {
  overwrite = { kind = "boolean", default = false },
  shard_size = plan_of.description.shard_size,
  progress = { kind = "custom", says = "a function",
               check = function(f) return type(f) == "function" and f or nil end },
}

local run_description = {}
for name, rule in pairs(plan_of.description) do run_description[name] = rule end
for name, rule in pairs(save_description) do run_description[name] = rule end

--- Quantizes a model into a new folder.
-- @param model  what rondo.open gives, or a path
-- @param dir    the folder to make; it appears whole, or not at all
-- @param given  the options of plan.make, and overwrite = false: replace an existing folder;
--               progress: function (done_bytes, total_bytes, tensor name), called after each piece
--               of a large tensor and after each tensor; the bytes are those of the source
-- @return the report (see rondo.report), or nil, message, code; raises for wrong options
function quantize.run(model, dir, given, level)
  level = (level or 1) + 1
  if type(dir) ~= "string" then
    error("quantize: the output folder must be a string, not a " .. type(dir), level)
  end
  options.check("quantize", given, run_description, level)
  local o = {}
  for name, value in pairs(given or {}) do o[name] = value end
  local overwrite, progress = o.overwrite or false, o.progress
  o.overwrite, o.progress = nil, nil
  if type(model) == "string" then
    local opened, message, code = require("rondo.model").open(model)
    if not opened then return nil, message, code end
    model = opened
  end
  local made, message, code = plan_of.make(model, o, level, "quantize")
  if not made then return nil, message, code end
  return quantize.execute(made, dir, overwrite, progress)
end

--- model:save; see rondo.model.
function quantize.save(model, dir, given)
  local o = options.check("save", given, save_description, 3)
  local made, message, code = model.checkpoint.plan, nil, nil
  if not made then made, message, code = plan_of.copy(model, o.shard_size) end
  if not made then return nil, message, code end
  return quantize.execute(made, dir, o.overwrite, o.progress)
end

--- Carries out a plan of rondo.plan; see quantize.run.
function quantize.execute(made, dir, overwrite, progress)
  local out, message, code = core.output(dir, { inputs = inputs_of(made.model),
                                                overwrite = overwrite })
  if not out then return nil, message, code end
  local guard <close> = out -- removes what is there on every way out but publication
  return fill(made, guard, progress)
end

return quantize
