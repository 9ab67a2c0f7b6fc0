-- quantize: a model in, a quantized checkpoint out. The plan says what; this carries it out, file
-- by file, writes the side files and the report, and publishes the folder as a whole or not at all.

local core = require "rondo.core"
local execute = require "rondo.execute"
local json = require "rondo.json"
local lfs = require "lfs"
local options = require "rondo.options"
local plan_of = require "rondo.plan"
local report_of = require "rondo.report"

local quantize = {}

-- ---- Side files ----

-- Weights in other formats than safetensors are not copied: they would not be quantized.
local weight_files = { safetensors = true, bin = true, pt = true, pth = true, h5 = true,
                       gguf = true, onnx = true, msgpack = true, ot = true, npz = true,
                       ckpt = true }
local LARGEST_SIDE_FILE = 100 * 1000 * 1000
local own_files = { ["config.json"] = true, ["model.safetensors.index.json"] = true,
                    ["rondo-report.json"] = true }

-- Names of the model folder's small files that go along, and of the files left behind.
local function side_files(model)
  local folder, copied, left, own = model.folder, {}, {}, {}
  for _, file in ipairs(model.checkpoint:files()) do own[file.path:match("[^/]+$")] = true end
  for name in lfs.dir(folder) do
    local path = folder .. "/" .. name
    local kind = lfs.attributes(path, "mode")
    local extension = name:match("%.([%w_]+)$") or ""
    if kind == "file" and name:sub(1, 1) ~= "." and not own_files[name] then
      local small = lfs.attributes(path, "size") <= LARGEST_SIDE_FILE
      if weight_files[extension] or name:match("%.index%.json$") or not small then
        if not own[name] then left[#left + 1] = name end
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

-- config.json: the source's bytes, with our quantization_config where the output is packed.
local function config_text(made)
  local folder = made.model.folder
  local has_config = folder and lfs.attributes(folder .. "/config.json", "mode") == "file"
  local text = "{}\n"
  if has_config then
    local read, message, code = read_file(folder .. "/config.json")
    if not read then return nil, message, code end
    text = read
  end
  if made.options.format == "copy" then return has_config and text or false end
  if made.options.format == "packed" then
    local packed = require "rondo.formats.packed"
    return json.splice(text, "quantization_config", packed.config_text(made))
  end
  if made.model.quantization and has_config then
    return json.splice(text, "quantization_config", nil)
  end
  return has_config and text or false
end

-- ---- Weights ----

-- put and put_bytes of rondo.execute for an open output file. advance(bytes) hears how much of an
-- entry has been written.
local function file_sink(file, advance)
  local function put(e, tensor, row, col)
    advance(tensor.nbytes)
    local cols, size = e.shape[#e.shape] or 1, e.size
    local height, width = tensor.shape[1], tensor.shape[2]
    local at = e.offset + ((row - 1) * cols + col - 1) * size
    if width == cols or height == 1 then return file:write(at, tensor:contiguous()) end
    for i = 1, height do
      local done, message, code = file:write(at + (i - 1) * cols * size, tensor:rows(i, i))
      if not done then return nil, message, code end
    end
    return true
  end
  local function put_bytes(e, tensor, offset)
    advance(tensor.nbytes)
    return file:write(e.offset + offset, tensor)
  end
  return put, put_bytes
end

-- Writes one shard; calls advance(job, bytes) after each piece, finished(job, result) after each
-- job.
local function write_shard(made, shard, out, advance, finished)
  local file, message, code = out:file(shard.name, shard.size)
  if not file then return nil, message, code end
  local done
  done, message, code = file:write(0, shard.header)
  if not done then return nil, message, code end
  local current
  local put, put_bytes = file_sink(file, function(bytes) advance(current, bytes) end)
  local function tick() advance(current, 0) end
  local keep = made.options.nonfinite == "keep"
  for _, job in ipairs(shard.jobs) do
    current = job
    local result
    result, message, code = execute.job(job, made.model.checkpoint, keep, put, put_bytes, tick)
    if not result then return nil, message, code end
    finished(job, result)
  end
  return file:close()
end

-- Turns bytes written of a job into bytes of the source, and tells progress(done, total, name).
local function progress_counter(made, progress)
  local before, after, name_of = {}, {}, {}
  for i, job in ipairs(made.jobs) do
    local row = made.rows[i]
    before[job], after[job], name_of[job] = row.bytes_before, row.bytes_after, row.name
  end
  local finished_bytes, written, total = 0, 0, made.totals.tensor_bytes
  local function advance(job, bytes)
    written = written + bytes
    if not progress or written >= after[job] then return end
    progress(finished_bytes + before[job] * written // after[job], total, name_of[job])
  end
  local function finish(job)
    finished_bytes, written = finished_bytes + before[job], 0
    if progress then progress(finished_bytes, total, name_of[job]) end
  end
  return advance, finish
end

-- Writes all weight files; returns the results of the quantized layers by tensor name.
local function write_weights(made, out, progress)
  local results = {}
  local advance, finish = progress_counter(made, progress)
  local function finished(job, result)
    if job.action == "quantize" then results[job.name] = result end
    finish(job)
  end
  for _, shard in ipairs(made.shards) do
    local done, message, code = write_shard(made, shard, out, advance, finished)
    if not done then return nil, message, code end
  end
  return results
end

local function write_side_files(made, out, report)
  local text, message, code = config_text(made)
  if text == nil then return nil, message, code end
  local done = true
  if text then done, message, code = out:write("config.json", text) end
  for _, name in ipairs(report.copied_files) do
    if not done then return nil, message, code end
    done, message, code = out:copy(name, made.model.folder .. "/" .. name)
  end
  if done and made.index then
    done, message, code = out:write("model.safetensors.index.json", made.index)
  end
  if not done then return nil, message, code end
  return out:write("rondo-report.json", report_of.text(report))
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
    local copied, left = side_files(made.model)
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
  local made = model.checkpoint.plan or plan_of.copy(model, o.shard_size)
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
