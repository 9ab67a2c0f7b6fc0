-- execute: carries out one job of a plan, piece by piece. Where the pieces go (a file, memory) is
-- the caller's: put(entry, tensor, row, col) stores a 2-D piece at a 1-based place of an output,
-- put_bytes(entry, tensor, offset) raw bytes; both return true, or nil, message, code.

local core = require "rondo.core"
local params = require "rondo.params"
local stream = require "rondo.stream"
local tiles = require "rondo.tiles"

local execute = {}

local COPY_BYTES = 8 * 1024 * 1024

-- Names the tensor, and the matrix in it where there are several, in front of an error.
local function located(job, piece, n, message)
  local name = job.name
  if #job.work > 1 then name = ("%s, %s"):format(name, piece.path) end
  if piece.count > 1 then name = ("%s, slice %d"):format(name, n) end
  return ("%s: %s"):format(name, message)
end

-- Squared errors of the whole layer at each of the ratios; or nil, message, code.
local function losses_at(job, ratios, keep, tick, exact)
  local losses = core.zeros({ #ratios }, "f64")
  for _, piece in ipairs(job.work) do
    for n = 1, piece.count do
      local done, message, code = stream.losses(piece.source(n), job.scheme,
                                                core.tensor(ratios, "f32"), losses, keep, tick,
                                                exact)
      if not done then return nil, located(job, piece, n, message), code end
    end
  end
  return losses:totable()
end

--- The clip ratio of a layer: its scheme's or, where that asks for a search, the ratio with the
--- least squared error over the whole layer, the first of several. Kept in the job. tick, if any,
--- is called after each tile.
function execute.ratio(job, keep, tick)
  if not job.ratio and job.scheme.clip == "layer" then
    local ratios = stream.search_ratios
    local losses, message, code = losses_at(job, ratios, keep, tick)
    if not losses then return nil, message, code end
    job.ratio, message, code = stream.best_ratio(ratios, losses, function(close)
      return losses_at(job, close, keep, tick, true)
    end)
    if not job.ratio then return nil, message, code end
  end
  return job.ratio or job.scheme.ratio
end

--- Looks at a layer's weights once, so that what cannot be quantized is known now.
-- @return true, or nil, message, code
function execute.check(job, keep)
  local good, message, code
  if job.scheme.clip == "layer" then good, message, code = execute.ratio(job, keep)
  else good, message, code = losses_at(job, { job.scheme.ratio }, keep) end
  if not good then return nil, message, code end
  return true
end

-- The largest magnitude of a piece and of those that it shares a scale with; or nil, message, code.
local function largest(job, shared, keep)
  if shared.amax then return shared.amax end
  local most = 0
  for _, piece in ipairs(shared.sources) do
    for n = 1, piece.count do
      local found, message, code = stream.largest(piece.source(n), job.scheme, keep)
      if not found then return nil, located(job, piece, n, message), code end
      most = math.max(most, found)
    end
  end
  shared.amax = most
  return most
end

-- Writes what a format stores of a layer besides, whatever its weights are.
local function put_constants(job, put_bytes)
  for _, e in ipairs(job.entries) do
    if e.constant then
      local done, message, code = put_bytes(e, e.constant(), 0)
      if not done then return nil, message, code end
    end
  end
  return true
end

-- Quantizes the matrices of one piece, which stand one below the other in its tensors.
local function quantize_piece(job, piece, wanted, put)
  local by_role, scheme = {}, job.scheme
  for _, e in ipairs(piece.entries) do by_role[e.role] = e end
  if by_role.values then wanted.values_dtype = by_role.values.dtype else wanted.store = by_role end
  if piece.shared then
    local amax, message, code = largest(job, piece.shared, wanted.keep)
    if not amax then return nil, message, code end
    scheme = params.with_factor(scheme, amax)
  end
  for n = 1, piece.count do
    local function sink(role, tensor, row, col)
      local e = by_role[role]
      local above = piece.count > 1 and (n - 1) * e.shape[#e.shape - 1] or 0
      return put(e, tensor, above + row, col)
    end
    local done, message, code = stream.quantize(piece.source(n), scheme, wanted, sink)
    if not done then return nil, located(job, piece, n, message), code end
  end
  return true
end

--- Quantizes a layer.
-- @param keep  whether NaN and infinity pass
-- @param tick  called now and then while a ratio is searched, or nil
-- @return { ratio, error, norm }: the clip ratio (NaN where groups have ratios of their own), the
--         sum of squared differences and of squares; or nil, message, code
function execute.quantize(job, keep, put, put_bytes, tick)
  local ratio, message, code = job.scheme.clip == "none" and job.scheme.ratio or 0 / 0, nil, nil
  local known = job.work[1].shared and params.with_factor(job.scheme, 1) or job.scheme
  if not params.are_found(known, job.reference) then
    ratio, message, code = execute.ratio(job, keep, tick)
  end
  if not ratio then return nil, message, code end
  local wanted = { ratio = ratio, keep = keep, sums = core.sums(), reference = job.reference,
                   of_what = ("%s (rule %s)"):format(job.name, job.rule) }
  for _, piece in ipairs(job.work) do
    local done
    done, message, code = quantize_piece(job, piece, wanted, put)
    if not done then return nil, message, code end
  end
  local done
  done, message, code = put_constants(job, put_bytes)
  if not done then return nil, message, code end
  local error, norm = wanted.sums:values()
  return { ratio = ratio, error = error, norm = norm }
end

--- Copies a tensor bit for bit.
function execute.copy(job, checkpoint, put_bytes)
  local e = job.entries[1]
  for offset = 0, e.nbytes - 1, COPY_BYTES do
    local bytes, message, code = checkpoint:read_bytes(job.name, offset,
                                                       math.min(COPY_BYTES, e.nbytes - offset))
    local done = bytes
    if done then done, message, code = put_bytes(e, bytes, offset) end
    if not done then return nil, message, code end
  end
  return true
end

--- Copies a tensor in another dtype.
function execute.cast(job, put)
  local e = job.entries[1]
  for tile in tiles.plain(job.source.rows, job.source.cols) do
    local values, message, code = job.source:read(tile.row, tile.rows, tile.col, tile.cols)
    local done = values
    if done then done, message, code = put(e, values:to(e.dtype), tile.row, tile.col) end
    if not done then return nil, message, code end
  end
  return true
end

--- Carries out any job.
-- @return what execute.quantize returns, true for the others; or nil, message, code
function execute.job(job, checkpoint, keep, put, put_bytes, tick)
  if job.action == "quantize" then
    return execute.quantize(job, keep, put, put_bytes, tick)
  end
  if job.action == "cast" or job.action == "dequantize" then return execute.cast(job, put) end
  return execute.copy(job, checkpoint, put_bytes)
end

return execute
