---@meta rondo
-- What is public in rondo: types and documentation. Editors with LuaLS read this file, help() at
-- the prompt shows it, and a spec holds it against what is there. Nothing here is ever run.
--
-- Functions that meet the world return nil, a message and a code ("io", "format", "usage",
-- "unsupported", "nonfinite", "changed", "exists", "memory") where it refuses; a caller's own
-- mistakes raise errors.

---Quantization of trained models: open, look, try, quantize.
---@class rondo
local rondo = {}

---The version, "0.1.0".
---@type string
rondo.version = ""

-- ---- Models ----

---Opens a model. Reads headers only; tensors are read when they are used.
---@param path string a folder in Hugging Face layout, its index, or one safetensors file
---@param options? rondo.open.options
---@return rondo.model? model or nil, message, code
---@return string? message
---@return string? code
function rondo.open(path, options) end

---@class rondo.open.options
---@field mode? "map"|"read" "map" (default): tensors are views of the mapped file; "read": copies

---Plans a quantization without touching weights: what every tensor becomes, why, and exact sizes.
---@param model rondo.model|string a model, or its path
---@param options? rondo.plan.options
---@return rondo.plan? plan or nil, message, code
---@return string? message
---@return string? code
function rondo.plan(model, options) end

---Quantizes a model into a new folder, which appears whole or not at all.
---@param model rondo.model|string a model, or its path
---@param dir string the folder to make
---@param options? rondo.quantize.options
---@return rondo.report? report or nil, message, code
---@return string? message
---@return string? code
function rondo.quantize(model, dir, options) end

---Compares two models layer by layer, whatever form each is stored in. Errors are measured against
---the first.
---@param a rondo.model|string a model, or its path
---@param b rondo.model|string a model, or its path
---@return rondo.comparison? comparison or nil, message, code
---@return string? message
---@return string? code
function rondo.compare(a, b) end

---Checks a quantized checkpoint against its source: every tensor there, everything finite, each
---weight with the code nearest to it under its stored scale, errors that the schemes explain.
---@param source rondo.model|string a model, or its path
---@param quantized rondo.model|string a model, or its path
---@return rondo.verification? verification or nil, message, code
---@return string? message
---@return string? code
function rondo.verify(source, quantized) end

---How a model is quantized.
---@class rondo.plan.options
---@field recipe? rondo.recipe decides in place of all that is said of schemes and layers here
---@field bits? integer 1 to 16, packed to 8; default 4
---@field group_size? integer|"row" weights that share a scale; -1 or "row": a whole row; default 32
---@field scheme? "asym"|"sym" with or without a zero point; default "asym"
---the number grid; default "int". The last four are whole schemes, see rondo.fp8 and so on
---@field dtype? "int"|"nf4"|"fp4"|"fp4_e2m1"|"fp4_e2m1_bnb"|"e2m1"|"fp8"|"mxfp4"|"mxfp8"|"nvfp4"
---@field group_dim? 0|1 groups along the inputs (1, default) or the outputs (0)
---@field full_range? boolean sym: scale by 2^(bits-1); default false
---@field quantile? number clip ratio in (0, 1]; default 1
---@field mse_search? boolean search the clip ratio of each layer; default false
---@field clip? string|rondo.strategy|function|table a search for clip ratios; default "none"
---"fake" (dequantized weights, default), "packed", "compressed-tensors", "gptq", "gptq-v2", "awq",
---"mlx", "bitsandbytes", "fp8" or "modelopt"
---@field format? string
---for layers that the format has no place for: "keep", "int8,keep", schemes
---@field fallback? string|rondo.scheme|rondo.scheme[]
---compressed-tensors: what engines do to the inputs of int8 and fp8 layers: nothing, or quantize
---them as they come (default)
---@field activations? "none"|"dynamic"
---@field config? table<string, table> by layer: { bits, group_size, scheme, quantile }
---@field exclude? string[] patterns of layers that are copied; default { "lm_head", routers }
---@field compression_dtype? "int8"|"int16"|"int32"|"int64" words of packed codes; default "int32"
---@field compression_dim? 0|1 the dimension along which codes are packed; default 1
---@field scale_dtype? "float32"|"float16"|"bfloat16" of packed layers; default "float32"
---@field shard_size? number bytes of one output file; default 5e9
---@field nonfinite? "error"|"keep" what NaN and infinity in a weight do; default "error"

---The options of a plan, and these.
---@class rondo.quantize.options: rondo.plan.options
---@field overwrite? boolean replace an existing folder; default false
---@field progress? fun(done: integer, total: integer, name: string) called as bytes are done

---A search for clip ratios: a function of (weight, scheme, options) that answers with one ratio for
---each group, or with scales and zero points. Called with a table of options it gives another that
---differs in these. It looks at each group for itself, unless it has an option over = "row" or
---"tensor": then it gets the whole weight.
---@class rondo.strategy
---@field name string
---@field options table those in force

---Makes a strategy: what the option clip of schemes takes, beside the names of those in rondo.clip.
---The better of its answer and no clipping is taken, group by group.
---@param name string for messages
---@param defaults table<string, number|string|boolean|table> its options; numbers may have a range:
---{ 0.5, above = 0, max = 1 }, { 0.5, min = 0 }. Integers are at least 1 unless they say so
---@param run fun(weight: rondo.tensor, scheme: rondo.scheme, options: table): rondo.tensor
---@param refuse? fun(options: table): string? why options do not go together, if they do not
---@param misfit? fun(scheme: rondo.scheme, options: table, cols: integer?): string? why there is
---nothing to be found for weights of that scheme with rows of so many weights
---@return rondo.strategy
function rondo.strategy(name, defaults, run, refuse, misfit) end

---The strategies that come with rondo: rondo.clip.grid { steps = 20 }.
---@class rondo.clip
rondo.clip = {}

---No clipping.
---@type rondo.strategy
rondo.clip.none = nil

---Tries `steps` (40) ratios 1, 1 - 1/divisions (200), ... and takes the first with the least error;
---over = "group", "row" or "tensor": the groups that share one.
---@type rondo.strategy
rondo.clip.grid = nil

---Golden-section search from `low` (0.4) to `high` (1.0) in `rounds` (12).
---@type rondo.strategy
rondo.clip.golden = nil

---Coarse to fine: `rounds` (3) of `steps` (8) ratios, first from 1 down to `low` (0.5), then around
---the best so far.
---@type rondo.strategy
rondo.clip.fine = nil

---The `quantile` (0.99) of a group's magnitudes.
---@type rondo.strategy
rondo.clip.percentile = nil

---Moves the ends of a range by themselves, each to the best of `steps` (20) factors from `low`
---(0.4) to 1: searches scale and zero point.
---@type rondo.strategy
rondo.clip.mse = nil

---For symmetric integers: tries the plain scale and that of full_range with the sign that suits the
---group, at `steps` (9) ratios from 1 to `low` (0.8).
---@type rondo.strategy
rondo.clip.signed = nil

---For integers without zero points or with zero = "float": codes for a scale, and the scale (and
---bias) of least squared error for the codes, `rounds` (5) times in turn.
---@type rondo.strategy
rondo.clip.least_squares = nil

---For scales of e4m3 and e8m0: tries those of that type around the plain one, `below` (4) codes
---less to `above` (6) more; of e8m0 at most one.
---@type rondo.strategy
rondo.clip.neighbours = nil

---What scheme:quantize gives, and layer:stored. Scales and zero points have the shape that
---scheme:ratios gives.
---@class rondo.quantized
---@field codes rondo.tensor i8; u8 with zero points, and of fp8, where they are its bits; a matrix
---@field scales rondo.tensor f32, what codes are multiplied by
---@field zeros? rondo.tensor u8; with zero = "float" f32, the values of code 0
---how the scales are stored; nil where a checkpoint has them quantized in turn
---@field stored? rondo.quantized.stored
---@field scheme rondo.scheme
---@field shape integer[] of the weight
local quantized = {}

---Scales as they are stored: in their type; over a factor, with tensor_scale; or quantized in turn,
---with double: then codes and a map, where there is one, stand for what scales are multiplied with.
---@class rondo.quantized.stored
---f32: by group, values of the type that they are stored in; with double [groups of scales]
---@field scales rondo.tensor
---@field factor? number the tensor's own scale: scales * factor are those of the groups
---@field codes? rondo.tensor i8, or u8 on the dynamic map, [scales], row by row
---@field mean? number added to what codes and scales give; 0 without mean
---@field map? rondo.tensor f32 [256]: the dynamic map, by code

---The values again, f32.
---@return rondo.tensor
function quantized:dequantize() end

---Bits for each weight: codes, scales and zero points, and a scale of the tensor's own.
---@return number
function quantized:bits() end

---The sum of squared differences from a weight over the weight's sum of squares.
---@param weight rondo.tensor
---@return number
function quantized:error(weight) end

---What rondo.plan gives.
---@class rondo.plan
---@field model rondo.model
---@field options table the options, completed
---For each tensor: name, shape, dtype, action, rule, scheme, bits, bytes_before, bytes_after.
---@field rows table[]
---@field files table[] for each output file: { name, size }
---Tensors, quantized, fallbacks, dequantized, weights, bits, bytes_before, bytes_after,
---tensor_bytes.
---@field totals table
---@field notes string[] what a policy says of its choice

---What was done to every layer, and how large the errors are; also rondo-report.json of the output.
---@class rondo.report
---@field schema integer 1
---@field rondo string the version that wrote it
---@field options table as given, completed
---@field source table[] for each file of the source: { name, size, header_digest }
---For each layer: name, tensor, shape, dtype, scheme, bits, group_size, group_dim, clip_ratio, mse,
---relative_error, snr_db, bytes_before, bytes_after.
---@field layers table[]
---Layers, tensors, dequantized, weights, bits_per_weight, bytes_before, bytes_after, mse,
---relative_error, snr_db.
---@field totals table
---{ tensor, rule, reason } of what the format has no place for as rules want it.
---@field fallbacks table[]
---@field notes string[] what a policy says of its choice
---@field left_out table[] { part, tensors }: scales of activations and caches in a quantized source
---@field copied_files string[] files of the model's folder that went along
---@field left_files string[] those that did not

---What rondo.compare gives. snr_db is nil where nothing was lost.
---@class rondo.comparison
---Of both: name, shape, weights, dtype_a, dtype_b, quantized_a, quantized_b, mse, relative_error,
---snr_db, max_abs, differing, incomparable, error, norm.
---@field layers table[]
---The others: name, shape, dtype_a, dtype_b, identical, differing, max_abs, incomparable.
---@field tensors table[]
---@field differing_shapes table[] { name, what, shape_a, shape_b }
---@field only_a table[] { name, what }
---@field only_b table[] { name, what }
---Over all layers: layers, weights, incomparable, mse, relative_error, snr_db.
---@field totals table
---@field changed table the same over the layers that differ

---What rondo.verify gives. snr_db is nil where nothing was lost, plain_error where something else
---is wrong.
---@class rondo.verification
---@field good boolean whether there are no problems
---@field problems table[] { what: "layer", "tensor" or "configuration", name, problem }
---The quantized ones: name, kind, shape, scheme, weights, mse, relative_error, snr_db, plain_error
---(the relative error of plain rounding), error, norm.
---@field layers table[]
---Of the linear layers: layers, weights, quantized_layers, quantized_weights, share.
---@field coverage table
---Of the quantized layers: layers, weights, mse, relative_error, snr_db.
---@field totals table

---An opened model. model["name"] is a tensor, by its full name or an unambiguous end of it. Nothing
---in a model can be changed; it may be used in `local m <close>`.
---@class rondo.model
---@field path string as given to open
---@field folder string? the folder in Hugging Face layout; nil for a single file
---@field names string[] of all tensors, in file order
---@field config table? config.json, decoded
---@field quantization string? the method that the checkpoint says it is quantized with
---@field tied table[] { name, target }: the tensor `name` is that of `target`
---@field depth integer the number of layers of the language model, 0 where nothing says so
---@field metadata table<string, string>? of the file
---@field checkpoint rondo.checkpoint the files behind it
---@field [string] rondo.tensor
local model = {}

---A tensor by its full name or an unambiguous end of it.
---@param name string
---@return rondo.tensor? tensor or nil, message, code
---@return string? message
---@return string? code
function model:tensor(name) end

---Whether there is a tensor of exactly this name.
---@param name string
---@return boolean
function model:has(name) end

---What a header says of a tensor: { name, dtype, shape, nbytes, file, offset }.
---@param name string as for model:tensor
---@return table? info or nil, message, code
---@return string? message
---@return string? code
function model:info(name) end

---Iterates over layers: for name, layer in model:layers() do ... end. Without a kind these are the
---linear layers (kinds linear, lm_head, router, expert), in the model's order.
---@param kind? "all"|"linear"|"lm_head"|"router"|"expert"|"embedding"|"norm"|"other"
---@return fun(): string, rondo.layer
function model:layers(kind) end

---One layer by its path, or an unambiguous end of it.
---@param path string
---@return rondo.layer? layer or nil, message, code
---@return string? message
---@return string? code
function model:layer(path) end

---The tensor that the tensor `name` shares, or nil where it has its own.
---@param name string
---@return string?
function model:tied_to(name) end

---Writes the model as a checkpoint of its own.
---@param dir string the folder to make; it appears whole, or not at all
---@param options? rondo.save.options
---@return rondo.report? report or nil, message, code
---@return string? message
---@return string? code
function model:save(dir, options) end

---The model with its tensors changed, computed when they are asked for: to be looked at, saved or
---quantized, one tensor at a time. What the function gives has the same shape and is stored in the
---dtype of the source; nil leaves a tensor as it is.
---@param f fun(name: string, tensor: rondo.tensor, row: integer?): rondo.tensor?
---@param options? rondo.map.options
---@return rondo.model
function model:map(f, options) end

---@class rondo.map.options
---"rows": the function gets some rows at a time and the first one's number, and must treat each row
---by itself; default "tensor"
---@field by? "tensor"|"rows"
---@field name? string what messages call the function; default "map"

---The model without the tensors whose names the function does not want.
---@param f fun(name: string): boolean
---@return rondo.model
function model:filter(f) end

---@class rondo.save.options
---@field overwrite? boolean replace an existing folder; default false
---@field shard_size? number bytes of one output file; default 5e9
---@field progress? fun(done: integer, total: integer, name: string) called as bytes are done

---Lets go of the files. Tensors that were read stay valid.
function model:close() end

---One module with a weight.
---@class rondo.layer
---@field name string module path: the tensor's name without ".weight"
---@field tensor_name string the tensor it is stored in
---@field bias_name string?
---@field kind "linear"|"lm_head"|"router"|"expert"|"embedding"|"norm"|"other"
---@field shape integer[] of the weight
---@field rank integer
---@field dtype string
---@field stacked boolean one matrix for each expert, in one tensor
---@field transposed boolean stored [in, out]
---@field experts integer? matrices of a stacked layer
---@field out_features integer?
---@field in_features integer?
---@field depth integer? the number of the layer it is in, from 0
---@field depth_count integer? how many such layers there are
---@field tied boolean whether another module uses the same weight
---@field quantized boolean whether it is stored as codes; its weight is dequantized then
---@field model rondo.model
---@field source table its rows, block by block
---@field weight rondo.tensor read each time it is asked for
---@field bias rondo.tensor?
local layer = {}

---The weight as f32.
---@return rondo.tensor
function layer:dequantize() end

---Codes, scales and zero points of a quantized layer as they are.
---@param index? integer of a stacked layer: the matrix of that number; default 1
---@return rondo.quantized
function layer:stored(index) end

---Statistics of the weight, read piece by piece: count, nans, infinities, zeros, mean, std, min,
---max, absmax.
---@return table
function layer:stats() end

---The files behind a model: mechanism, for code that reads tile by tile. Names are exact here.
---@class rondo.checkpoint
local checkpoint = {}

---The names of all tensors in file order.
---@return string[]
function checkpoint:names() end

---Whether there is a tensor of exactly this name.
---@param name string
---@return boolean
function checkpoint:has(name) end

---What a header says of a tensor; nothing where there is none.
---@param name string
---@return string? dtype
---@return integer[] shape
---@return integer bytes
---@return integer file its place in checkpoint:files()
---@return integer offset of its first byte in that file
function checkpoint:info(name) end

---The full name for a name or an unambiguous end of it.
---@param name string
---@return string? full or nil and a list of candidates
---@return string[]? candidates
function checkpoint:resolve(name) end

---A tensor.
---@param name string
---@return rondo.tensor? tensor or nil, message, code
---@return string? message
---@return string? code
function checkpoint:tensor(name) end

---Reads a tile of a tensor seen as a matrix: all dimensions but the last one are rows.
---@param name string
---@param row integer the first row, from 1
---@param rows integer
---@param col integer the first column, from 1
---@param cols integer
---@param out? rondo.tensor whose memory is used
---@return rondo.tensor? tile or nil, message, code
---@return string? message
---@return string? code
function checkpoint:read(name, row, rows, col, cols, out) end

---A tile as checkpoint:read gives it, read only when a kernel works on it.
---@param name string
---@param row integer the first row, from 1
---@param rows integer
---@param col integer the first column, from 1
---@param cols integer
---@return userdata
function checkpoint:block(name, row, rows, col, cols) end

---Tensors of the same type and shape as groups, numbered in the order of their first ones.
---@return integer[] group of each tensor, in the order of checkpoint:names()
---@return integer[] first tensor of each group
function checkpoint:groups() end

---Reads raw bytes of a tensor of any type, as u8.
---@param name string
---@param offset integer from 0, within the tensor
---@param count integer
---@param out? rondo.tensor whose memory is used
---@return rondo.tensor? bytes or nil, message, code
---@return string? message
---@return string? code
function checkpoint:read_bytes(name, offset, count, out) end

---The files: { path, size, header_digest }.
---@return table[]
function checkpoint:files() end

---The strings of the first file's metadata.
---@return table<string, string>?
function checkpoint:metadata() end

---Whether the files are still those that were opened.
---@return true? unchanged or nil, message, "changed"
---@return string? message
---@return string? code
function checkpoint:check() end

---A text that tells this content from others.
---@return string
function checkpoint:fingerprint() end

---Lets go of the files.
function checkpoint:close() end

-- ---- Tensors ----

---A tensor of values: nested tables, a number, a boolean, or a tensor (copied).
---@param values table|number|boolean|rondo.tensor
---@param dtype? string default f32; bool for booleans
---@return rondo.tensor
function rondo.tensor(values, dtype) end

---A tensor of zeros.
---@param shape integer[]|integer
---@param dtype? string default f32
---@return rondo.tensor
function rondo.zeros(shape, dtype) end

---A tensor of one value.
---@param shape integer[]|integer
---@param value number|boolean
---@param dtype? string default f32
---@return rondo.tensor
function rondo.full(shape, value, dtype) end

---The numbers first, first + step, ..., up to last, which is included.
---@param first number
---@param last number
---@param step? number default 1
---@param dtype? string default f32
---@return rondo.tensor
function rondo.arange(first, last, step, dtype) end

---Random numbers, uniform from 0 up to and without 1; the same on every machine. Also
---rondo.rand { 2, 3, seed = 7, dtype = "bf16" }.
---@param shape integer[]|integer
---@param seed? integer default 0
---@param dtype? string default f32
---@return rondo.tensor
function rondo.rand(shape, seed, dtype) end

---Random numbers, normal with mean 0 and deviation 1; otherwise as rondo.rand.
---@param shape integer[]|integer
---@param seed? integer default 0
---@param dtype? string default f32
---@return rondo.tensor
function rondo.randn(shape, seed, dtype) end

---A tensor of elements as they lie in memory, row-major.
---@param bytes string
---@param dtype string
---@param shape integer[]|integer
---@return rondo.tensor
function rondo.from_bytes(bytes, dtype, shape) end

---Whether a value is a tensor.
---@param value any
---@return boolean
function rondo.is_tensor(value) end

---Numbers of one type in a shape. t[i] is a row or a number, t["2:5, :"] a part, t[mask] a list of
---the elements where a bool tensor is true; indices count from 1, negative ones from the end. All
---three can be assigned to. + - * / // % ^ and & | ~ work element by element and stretch
---dimensions of size 1; comparisons are the methods lt, le, gt, ge, eq, ne.
---@class rondo.tensor
---@field shape integer[]
---f64 f32 f16 bf16 f8_e4m3 f8_e5m2, i8 u8 to i64 u64, bool, or an opaque type.
---@field dtype string
---@field rank integer
---@field nbytes integer
---@operator add(rondo.tensor|number): rondo.tensor
---@operator sub(rondo.tensor|number): rondo.tensor
---@operator mul(rondo.tensor|number): rondo.tensor
---@operator div(rondo.tensor|number): rondo.tensor
---@operator idiv(rondo.tensor|number): rondo.tensor
---@operator mod(rondo.tensor|number): rondo.tensor
---@operator pow(rondo.tensor|number): rondo.tensor
---@operator unm: rondo.tensor
---@operator band(rondo.tensor): rondo.tensor
---@operator bor(rondo.tensor): rondo.tensor
---@operator bxor(rondo.tensor): rondo.tensor
---@operator bnot: rondo.tensor
---@field [integer] rondo.tensor|number
---@field [string] rondo.tensor
local tensor = {}

---The tensor in another type; itself when it has that type.
---@param dtype string
---@return rondo.tensor
function tensor:to(dtype) end

---A copy.
---@return rondo.tensor
function tensor:clone() end

---The tensor itself when it is row-major, else a copy that is.
---@return rondo.tensor
function tensor:contiguous() end

---The same elements in another shape; one dimension may be -1. A view where memory allows.
---@param shape integer[]|integer
---@return rondo.tensor
function tensor:reshape(shape) end

---The same memory as elements of another type of the same size: t:view("u8") of f8_e8m0.
---@param dtype string
---@return rondo.tensor
function tensor:view(dtype) end

---A view with two dimensions exchanged, the last two unless named.
---@param a? integer
---@param b? integer
---@return rondo.tensor
function tensor:transpose(a, b) end

---Short for transpose.
---@param a? integer
---@param b? integer
---@return rondo.tensor
function tensor:t(a, b) end

---A view of some rows, both ends included.
---@param first integer
---@param last integer
---@return rondo.tensor
function tensor:rows(first, last) end

---Nested tables of the elements.
---@return table|number|boolean
function tensor:totable() end

---The only element as a Lua value.
---@return number|boolean
function tensor:item() end

---The elements as a string, row-major.
---@return string
function tensor:bytes() end

---Magnitudes.
---@return rondo.tensor
function tensor:abs() end

---The elements times -1.
---@return rondo.tensor
function tensor:neg() end

---Square roots.
---@return rondo.tensor
function tensor:sqrt() end

---e to the power of the elements.
---@return rondo.tensor
function tensor:exp() end

---Natural logarithms.
---@return rondo.tensor
function tensor:log() end

---Rounds to whole numbers, halves to even ones; -0 stays.
---@return rondo.tensor
function tensor:round() end

---Rounds down.
---@return rondo.tensor
function tensor:floor() end

---Rounds up.
---@return rondo.tensor
function tensor:ceil() end

---1, 0 or -1.
---@return rondo.tensor
function tensor:sign() end

---Squares.
---@return rondo.tensor
function tensor:square() end

---Limits the elements to a range; either end may be nil.
---@param low number?
---@param high number?
---@return rondo.tensor
function tensor:clamp(low, high) end

---The smaller of two, element by element.
---@param other rondo.tensor|number
---@return rondo.tensor
function tensor:minimum(other) end

---The larger of two, element by element.
---@param other rondo.tensor|number
---@return rondo.tensor
function tensor:maximum(other) end

---Where elements are equal: a bool tensor.
---@param other rondo.tensor|number
---@return rondo.tensor
function tensor:eq(other) end

---Where elements differ: a bool tensor.
---@param other rondo.tensor|number
---@return rondo.tensor
function tensor:ne(other) end

---Where elements are less: a bool tensor.
---@param other rondo.tensor|number
---@return rondo.tensor
function tensor:lt(other) end

---Where elements are less or equal: a bool tensor.
---@param other rondo.tensor|number
---@return rondo.tensor
function tensor:le(other) end

---Where elements are greater: a bool tensor.
---@param other rondo.tensor|number
---@return rondo.tensor
function tensor:gt(other) end

---Where elements are greater or equal: a bool tensor.
---@param other rondo.tensor|number
---@return rondo.tensor
function tensor:ge(other) end

---Where both are not 0: a bool tensor.
---@param other rondo.tensor|boolean
---@return rondo.tensor
function tensor:land(other) end

---Where one of the two is not 0: a bool tensor.
---@param other rondo.tensor|boolean
---@return rondo.tensor
function tensor:lor(other) end

---Where elements are 0: a bool tensor.
---@return rondo.tensor
function tensor:lnot() end

---Of a bool tensor: a where it is true, else b.
---@param a rondo.tensor|number
---@param b rondo.tensor|number
---@return rondo.tensor
function tensor:pick(a, b) end

---The sum, of all elements (a number) or along a dimension (a tensor).
---@param dim? integer
---@param options? { keep: boolean } keep = true: the dimension stays, with size 1
---@return number|rondo.tensor
function tensor:sum(dim, options) end

---The mean, of all elements or along a dimension.
---@param dim? integer
---@param options? { keep: boolean }
---@return number|rondo.tensor
function tensor:mean(dim, options) end

---The standard deviation of the population, of all elements or along a dimension.
---@param dim? integer
---@param options? { keep: boolean }
---@return number|rondo.tensor
function tensor:std(dim, options) end

---The root of the sum of squares, of all elements or along a dimension.
---@param dim? integer
---@param options? { keep: boolean }
---@return number|rondo.tensor
function tensor:norm(dim, options) end

---The smallest element, of all or along a dimension.
---@param dim? integer
---@param options? { keep: boolean }
---@return number|rondo.tensor
function tensor:min(dim, options) end

---The largest element, of all or along a dimension.
---@param dim? integer
---@param options? { keep: boolean }
---@return number|rondo.tensor
function tensor:max(dim, options) end

---The place of the first smallest element, of all in row-major order or along a dimension.
---@param dim? integer
---@param options? { keep: boolean }
---@return integer|rondo.tensor
function tensor:argmin(dim, options) end

---The place of the first largest element, of all in row-major order or along a dimension.
---@param dim? integer
---@param options? { keep: boolean }
---@return integer|rondo.tensor
function tensor:argmax(dim, options) end

---How many elements are not 0, of all or along a dimension.
---@param dim? integer
---@param options? { keep: boolean }
---@return integer|rondo.tensor
function tensor:count(dim, options) end

---Whether any element is not 0, of all or along a dimension.
---@param dim? integer
---@param options? { keep: boolean }
---@return boolean|rondo.tensor
function tensor:any(dim, options) end

---Whether all elements are not 0, of all or along a dimension.
---@param dim? integer
---@param options? { keep: boolean }
---@return boolean|rondo.tensor
function tensor:all(dim, options) end

---Whether all elements are as near; the types may differ.
---@param other rondo.tensor
---@param tolerance? number absolute; default 1e-6
---@return boolean close
---@return string? where they differ first
function tensor:close(other, tolerance) end

---How many elements are NaN or infinite, and how many each.
---@return integer both
---@return integer nans
---@return integer infinities
function tensor:count_nonfinite() end

---Counts the elements in bins of equal width; what is not finite is in none. See rondo.plot for a
---picture.
---@param options? { bins: integer, low: number, high: number } 32, the smallest, the largest
---@return integer[] counts
---@return number[] edges one more than counts
---@return integer outside how many lie elsewhere
function tensor:hist(options) end

---The line of tostring, and the corners of the matrix.
---@return string
function tensor:show() end

-- ---- The reference functions ----

---The functions of neural_compressor.torch.algorithms.rtn, bit for bit. Weights are tensors of f32,
---f16 or bf16; results are f32 and the input is never changed.
---@class rondo.rtn
rondo.rtn = {}

---Quantizes and dequantizes to a 4-bit codebook; every row is one group.
---@param weight rondo.tensor
---@param o? rondo.rtn.quantize_4bit.options
---@return rondo.tensor values with return_int: i8 codes
---@return rondo.tensor? scale with return_int: f32 [rows, 1]
function rondo.rtn.quantize_4bit(weight, o) end

---@class rondo.rtn.quantize_4bit.options
---@field quantile? number clip ratio in (0, 1]; default 1
---@field data_type? string "nf4" (default), "fp4", "fp4_e2m1_bnb", "fp4_e2m1", "e2m1"
---@field return_int? boolean codes and scales; default false
---@field nonfinite? "error"|"keep" default "error"

---Quantizes and dequantizes to unsigned integers with a zero point; every row is one group.
---@param weight rondo.tensor
---@param o? rondo.rtn.qdq_weight_asym.options
---@return rondo.tensor values with return_int: u8 codes
---@return rondo.tensor? scale with return_int: f32 [rows, 1]
---@return rondo.tensor? zero with return_int: u8 [rows, 1]
function rondo.rtn.qdq_weight_asym(weight, o) end

---@class rondo.rtn.qdq_weight_asym.options
---@field num_bits? integer 1 to 16; default 4
---@field quantile? number clip ratio in (0, 1]; default 1
---@field return_int? boolean codes and scales; default false
---@field nonfinite? "error"|"keep" default "error"

---Quantizes and dequantizes to signed integers; every row is one group.
---@param weight rondo.tensor
---@param o? rondo.rtn.qdq_weight_sym.options
---@return rondo.tensor values with return_int: i8 codes
---@return rondo.tensor? scale with return_int: f32 [rows, 1]
function rondo.rtn.qdq_weight_sym(weight, o) end

---@class rondo.rtn.qdq_weight_sym.options
---@field num_bits? integer 1 to 16; default 4
---@field quantile? number clip ratio in (0, 1]; default 1
---@field full_range? boolean scale by 2^(num_bits-1); default false
---@field return_int? boolean codes and scales; default false
---@field nonfinite? "error"|"keep" default "error"

---Chooses among quantize_4bit, qdq_weight_asym and qdq_weight_sym by data_type and scheme.
---@param weight rondo.tensor
---@param o rondo.rtn.qdq_weight_actor.options
---@return rondo.tensor values
---@return rondo.tensor? scale
---@return rondo.tensor? zero
function rondo.rtn.qdq_weight_actor(weight, o) end

---@class rondo.rtn.qdq_weight_actor.options
---@field num_bits integer required
---@field scheme "asym"|"sym" required
---@field quantile? number clip ratio in (0, 1]; default 1
---@field data_type? string default "int"
---@field full_range? boolean default false
---@field return_int? boolean codes and scales; default false
---@field nonfinite? "error"|"keep" default "error"

---Quantizes and dequantizes in groups along the columns; a row that does not divide keeps a shorter
---last group.
---@param weight rondo.tensor
---@param o? rondo.rtn.quant_weight.options
---@return rondo.tensor values with return_int: codes
---@return rondo.tensor? scale with return_int: f32 [rows, groups]
---@return rondo.tensor? zero with return_int: u8 [rows, groups], or nil
function rondo.rtn.quant_weight(weight, o) end

---@class rondo.rtn.quant_weight.options
---@field num_bits? integer default 4
---@field group_size? integer|"row" default -1: a whole row
---@field scheme? "asym"|"sym" default "asym"
---@field quantile? number clip ratio in (0, 1]; default 1
---@field data_type? string "int" (default), "nf4", "fp4", "fp4_e2m1", "fp4_e2m1_bnb", "e2m1"
---@field return_int? boolean default false
---@field full_range? boolean default false
---@field nonfinite? "error"|"keep" default "error"

---Searches the clip ratio of a whole layer: of 1 - i/200, i = 0..39, the first with the least mean
---squared error.
---@param weight rondo.tensor|rondo.layer
---@param o? rondo.rtn.search_clip.options
---@return number ratio
---@return number[] errors the 40 mean squared errors
function rondo.rtn.search_clip(weight, o) end

---@class rondo.rtn.search_clip.options
---@field num_bits? integer default 4
---@field group_size? integer|"row" default 32
---@field scheme? "asym"|"sym" default "asym"
---@field data_type? string default "int"
---@field enable_full_range? boolean default false
---@field group_dim? 0|1 default 1
---@field nonfinite? "error"|"keep" default "error"
---@field importance? rondo.tensor f32 [cols]: a weight per column for the error

---Quantizes all linear layers of a model, lm_head and routers included. The tensors are computed
---when they are asked for, so a model of any size fits.
---@param opened rondo.model
---@param o? rondo.rtn.rtn_quantize.options
---@return rondo.model? model or nil, message, code
---@return string? message
---@return string? code
function rondo.rtn.rtn_quantize(opened, o) end

---@class rondo.rtn.rtn_quantize.options
---@field num_bits? integer default 4
---@field group_size? integer|"row" default 32
---@field scheme? "asym"|"sym" default "asym"
---@field quantile? number default 1
---@field data_type? string default "int"
---@field enable_full_range? boolean default false
---@field enable_mse_search? boolean default false
---@field group_dim? 0|1 default 1
---@field nonfinite? "error"|"keep" default "error"
---By layer: { bits, group_size, scheme, quantile, gptq_perm }.
---@field weight_config? table<string, table>
---@field return_int? boolean packed layers; default false
---@field compression_dtype? string default "int32"
---@field compression_dim? 0|1 default 1
---@field scale_dtype? string default "float32"

-- ---- Files and names ----

---Files of named tensors.
---@class rondo.safetensors
rondo.safetensors = {}

---Opens all tensors of a file, or of a checkpoint's folder or index.
---@param path string
---@param options? rondo.open.options
---@return table<string, rondo.tensor>? tensors or nil, message, code
---@return table<string, string>|string|nil metadata
---@return string? code
function rondo.safetensors.load(path, options) end

---Writes a file of tensors; an old one of that name is replaced when the new one is complete.
---@param path string
---@param tensors table<string, rondo.tensor>
---@param metadata? table<string, string>
---@return true? done or nil, message, code
---@return string? message
---@return string? code
function rondo.safetensors.save(path, tensors, metadata) end

---JSON, with exact integers, lists that stay lists and objects that keep their order.
---@class rondo.json
---@field null userdata what null is read as
rondo.json = {}

---Reads one JSON value.
---@param text string
---@param options? { nan: boolean } nan = true also takes NaN and Infinity
---@return any value or nil, message, code
---@return string? message
---@return string? code
function rondo.json.decode(text, options) end

---Writes a value as JSON; raises for what JSON cannot hold.
---@param value any
---@param options? { indent: integer } one member a line
---@return string
function rondo.json.encode(value, options) end

---A writer of objects that all have the same members, for long lists of them.
---@param names string[] the members in order; one that is nil is written as null
---@return fun(value: table): string
function rondo.json.encoder(names) end

---Where a member's value stands in the object that a JSON text is, or would if it were added: for
---values that are too long for json.splice.
---@param text string
---@param key string
---@return string? before the text before the value; or nil, message, code
---@return string? after the text behind it
---@return string? indent the member's indentation; nil where members share a line
function rondo.json.place(text, key) end

---Marks a table as a list, also when it is empty, and returns it.
---@param list? table default a new one
---@return table
function rondo.json.array(list) end

---Whether a value carries the mark of a list.
---@param value any
---@return boolean
function rondo.json.is_array(value) end

---An object with its members in the order given.
---@param members table[] { { "key", value }, ... }
---@return table
function rondo.json.object(members) end

---Replaces one member of the object that a JSON text is; every other byte stays.
---@param text string
---@param key string added at the end where there is none
---@param value any JSON text, or another value; nil takes the member out
---@return string? text or nil, message, code
---@return string? message
---@return string? code
function rondo.json.splice(text, key, value) end

---Models: what rondo.open is made of.
---@class rondo.models
rondo.model = {}

---The same as rondo.open.
---@param path string
---@param options? rondo.open.options
---@return rondo.model? model or nil, message, code
---@return string? message
---@return string? code
function rondo.model.open(path, options) end

---Makes a model of a checkpoint, or of anything with its methods.
---@param files rondo.checkpoint
---@param given { path: string, folder: string?, config: table? }
---@return rondo.model? model or nil, message, code
---@return string? message
---@return string? code
function rondo.model.wrap(files, given) end

---Whether a value is a model.
---@param value any
---@return boolean
function rondo.model.is_model(value) end

---What a model knows of its layers, for code that walks over very many of them.
---@param opened rondo.model
---@return table list names and kinds of the tensors that are layers
---@return table<string, true> shared the names of tensors that are shared
function rondo.model.layer_list(opened) end

---What the configuration says of a model's quantization: { method, described, records }; without a
---method where it is not quantized.
---@param opened rondo.model
---@return table said
function rondo.model.quantization_of(opened) end

---The layer that stands in exactly this tensor.
---@param opened rondo.model
---@param tensor_name string
---@return rondo.layer? layer or nil where there is none
function rondo.model.layer_of(opened, tensor_name) end

---The name of the layer that a path most likely stands for, or nil.
---@param given rondo.model
---@param path string
---@return string?
function rondo.model.meant_layer(given, path) end

---Reads one config.json.
---@param path string
---@return table? config or nil, message, code
---@return string? message
---@return string? code
function rondo.model.config(path) end

---Patterns over dotted names: a pattern matches a run of whole segments anywhere in a name. `*` in
---a segment is any characters, a segment `*` any segments; `|` either pattern; {q,k,v} either text;
---{0-3,7} numbers; {first,last} numbers of the context.
---@class rondo.patterns
rondo.pattern = {}

---Compiles a pattern.
---@param text string
---@param context? table<string, integer> what first and last stand for
---@return rondo.matcher
function rondo.pattern.compile(text, context) end

---A compiled pattern; matcher(name) is matcher:match(name).
---@class rondo.matcher
---@field text string the pattern
---@field test fun(name: string): boolean the bare function
---@overload fun(name: string): boolean
local matcher = {}

---Whether a name matches.
---@param name string
---@return boolean
function matcher:match(name) end

-- ---- The machine ----

---The number of threads that this Lua state computes with.
---@param count? integer sets it first; 0: one per processor
---@return integer
function rondo.threads(count) end

---The instruction set in use, and those that run here. The environment variable RONDO_ISA forces
---one.
---@return string name
---@return string[] names
function rondo.isa() end

-- ---- Looking ----

---Shows what is known about a thing: a function, an object, or a name such as "tensor:sum". Without
---an argument: an overview.
---@param what? any
---@return rondo.shown
function rondo.help(what) end

---A value as text for people: tables by what they hold, lists of records as columns.
---@param value any
---@param width? integer columns; those of the terminal
---@return rondo.shown
function rondo.show(value, width) end

---A text that prints itself: what help and plots return.
---@class rondo.shown
---@field text string
---@operator concat(any): string

---Plots made of characters: block characters where the locale is UTF-8, ASCII elsewhere. Tensors of
---any size are reduced natively.
---@class rondo.plot
rondo.plot = {}

---@class rondo.plot.options
---@field width? integer columns of the whole plot; those of the terminal
---@field ascii? boolean ASCII only; default: whether the locale is not UTF-8

---Counts of values in bins of equal width, one bar a line.
---@param values rondo.tensor|number[]
---@param options? rondo.plot.histogram.options
---@return rondo.shown
function rondo.plot.histogram(values, options) end

---@class rondo.plot.histogram.options: rondo.plot.options
---@field bins? integer default 24
---@field low? number default: the smallest value
---@field high? number default: the largest value

---A line of tiny bars, one for each value, or for each run of values where there are more than
---columns (its mean).
---@param values rondo.tensor|number[]
---@param options? rondo.plot.options
---@return rondo.shown
function rondo.plot.sparkline(values, options) end

---Values one after the other as a curve; where there are more than columns, from the least to the
---greatest of each run.
---@param values rondo.tensor|number[]
---@param options? rondo.plot.line.options
---@return rondo.shown
function rondo.plot.line(values, options) end

---@class rondo.plot.line.options: rondo.plot.options
---@field height? integer lines; default 12

---The mean magnitude of the blocks of a matrix, light to dark.
---@param values rondo.tensor of rank 2
---@param options? rondo.plot.heat.options
---@return rondo.shown
function rondo.plot.heat(values, options) end

---@class rondo.plot.heat.options: rondo.plot.options
---@field height? integer lines at most; default 16
---@field colour? boolean default: whether stdout is a terminal that shows colours

-- ---- Schemes and recipes ----

---How weights become codes, as a value: nobody can change one, and two that say the same are equal.
---Called with a table of options it gives another that differs in these:
---rondo.int4 { group_size = 64 }.
---@class rondo.scheme
---"int1" .. "int16", "nf4", "fp4", "fp4_e2m1", "fp4_e2m1_bnb", "e2m1", "fp8" or "keep"
---@field type string
---@field data_type string "int", "fp8", or the codebook's name
---@field bits integer
---weights that share a scale, or a block { output channels, input channels }; default 128, with 8
---bits and more "row"
---@field group_size integer|"row"|"tensor"|integer[]
---@field group_dim 0|1 groups run along the input (1, default) or the output channels
---@field symmetric boolean without a zero point; default true
---@field full_range boolean symmetric: scale by 2^(bits-1); default false
---@field ratio number clips every group to so much of its range; default 1
---a search for the ratio: "none" (default), "layer" (one for the whole layer, as the reference
---does), or one of rondo.clip
---@field clip string|rondo.strategy
---@field scale "f32"|"f16"|"bf16"|"e4m3"|"e8m0" the type that scales are stored in; default "f32"
---the kind of zero point; default "integer"; "positive": from 1 on; "float": the value of code 0,
---stored like the scale
---@field zero "integer"|"positive"|"float"
---@field tensor_scale boolean|number one more above scales of e4m3, or that one; default false
---the scales quantized in turn: { bits, group_size, mean, map }, map "int" or "dynamic"
---@field double table?
---@field importance rondo.tensor? a value for each column: the weight of its errors
---@field p number the errors' norm, for searches; default 2
---@field grid userdata the number grid
---@field divisor number a group's scale is its range over that
local scheme = {}

---Quantizes a weight in memory.
---@param weight rondo.tensor
---@return rondo.quantized
function scheme:quantize(weight) end

---The relative squared error of a weight under the scheme.
---@param weight rondo.tensor
---@return number
function scheme:loss(weight) end

---Errors by group: the sums of importance * |difference|^p.
---@param weight rondo.tensor
---clip ratios above 0, at most 1: by group, or a list to try; or { scales =, zeros = } by group
---@param ratios rondo.tensor|number[]|table
---@return rondo.tensor
function scheme:losses(weight, ratios) end

---Clip ratios for a weight, one for each group, all of them `value`.
---@param weight rondo.tensor
---@param value number
---@return rondo.tensor
function scheme:ratios(weight, value) end

---Whether groups have a zero point of their own.
---@return boolean
function scheme:has_zero() end

---The dtype of zero points: "u8", "f32" for zero = "float"; nil without.
---@return string?
function scheme:zero_dtype() end

---Groups along a line of so many weights.
---@param length integer
---@return integer
function scheme:groups(length) end

---The group size in elements for lines of that length.
---@param length integer
---@return integer
function scheme:group_elements(length) end

---Short text for tables and reports, with what differs from the defaults: "int4 asym g32",
---"int4 sym g128 scale f16 clip grid".
---@return string
function scheme:label() end

---A plain table that rondo.scheme.from makes the same scheme of.
---@return table
function scheme:totable() end

---The scheme for a weight that is stored [in, out].
---@return rondo.scheme
function scheme:transposed() end

---The scheme in the words of rondo.rtn: bits, group_size, scheme, data_type, full_range, group_dim.
---@return table
function scheme:reference() end

---Why nothing can be quantized with this scheme, or nil.
---@param cols? integer of the weights; any, if absent
---@return string?
function scheme:refusal(cols) end

---Integers of 2 bits, in groups of 128.
---@type rondo.scheme
rondo.int2 = nil

---Integers of 3 bits, in groups of 128.
---@type rondo.scheme
rondo.int3 = nil

---Integers of 4 bits, in groups of 128.
---@type rondo.scheme
rondo.int4 = nil

---Integers of 5 bits, in groups of 128.
---@type rondo.scheme
rondo.int5 = nil

---Integers of 6 bits, in groups of 128.
---@type rondo.scheme
rondo.int6 = nil

---Integers of 8 bits, a scale for each row.
---@type rondo.scheme
rondo.int8 = nil

---The 4-bit codebook of QLoRA.
---@type rondo.scheme
rondo.nf4 = nil

---The reference's 4-bit floats.
---@type rondo.scheme
rondo.fp4 = nil

---The 4-bit floats of OCP's MX formats.
---@type rondo.scheme
rondo.e2m1 = nil

---8-bit floats (E4M3 without infinity, up to 448), a scale for each row.
---@type rondo.scheme
rondo.fp8 = nil

---OCP's MXFP4: e2m1 in groups of 32, scales that are powers of two.
---@type rondo.scheme
rondo.mxfp4 = nil

---OCP's MXFP8: fp8 in groups of 32, scales that are powers of two.
---@type rondo.scheme
rondo.mxfp8 = nil

---NVFP4: e2m1 in groups of 16, scales of E4M3 and one of the tensor's own.
---@type rondo.scheme
rondo.nvfp4 = nil

---Leaves a tensor as it is.
---@type rondo.scheme
rondo.keep = nil

---Schemes by other ways than their names.
---@class rondo.schemes
rondo.scheme = {}

---All schemes with their defaults, by type.
---@type table<string, rondo.scheme>
rondo.scheme.types = {}

---The names of those that say how weights are grouped and scaled by themselves: fp8, mxfp4, mxfp8,
---nvfp4. As the option dtype of a plan they leave nothing for bits and group_size to say.
---@type string[]
rondo.scheme.whole = {}

---The schemes that are fields of rondo, by name.
---@type table<string, rondo.scheme>
rondo.scheme.ready = {}

---The names of the codebooks.
---@type string[]
rondo.scheme.float_types = {}

---"int" and the names of the codebooks.
---@type string[]
rondo.scheme.data_types = {}

---A scheme of a plain table: type, and options; see scheme:totable.
---@param given table
---@return rondo.scheme
function rondo.scheme.from(given) end

---A scheme in the words of rondo.rtn.
---@param fields table bits, data_type, scheme, full_range, group_size, group_dim, ratio, clip,
---scale_dtype
---@return rondo.scheme
function rondo.scheme.of_reference(fields) end

---Whether a value is a scheme.
---@param value any
---@return boolean
function rondo.scheme.is(value) end

---Makes a recipe: a list of rules, of which the first that matches a tensor decides what becomes
---of it; for rondo.plan, rondo.quantize and --recipe. A rule is { pattern, scheme } (name = "...":
---how a plan calls it; fixed = true: no policy changes what it decides),
---{ function (layer) -> boolean, scheme }, a function (layer) -> scheme or nil, or another recipe.
---Fields: name, otherwise (a scheme), fallback, transform, policy, revise, fused, options with
---rules; see docs/recipes.md.
---A recipe with options is called with them.
---@param rules table
---@return rondo.recipe
function rondo.recipe(rules) end

---What rondo.recipe makes; nobody can change one.
---@class rondo.recipe

---A tensor of a plan as the functions of a recipe see it; it has whatever else a layer of
---model:layers() has.
---@class rondo.recipe.layer
---@field name string the module's path; of a tensor that is no layer's, its name
---@field tensor_name string
---q, k, v, o, gate, up, down, linear, expert, router, head, embedding, norm, bias or other
---@field kind string
---@field part string? q, k, v, o, gate, up or down, of experts, too
---@field shape integer[]
---@field rank integer
---@field dtype string
---@field depth integer? the number of the layer it is in, from 0
---@field depth_count integer? how many such layers there are
---@field tied boolean whether another module uses the same tensor
---@field transposed boolean stored [in, out]
---@field quantized boolean whether it is packed
---@field weight rondo.tensor read when it is asked for
local recipe_layer = {}

---Statistics of the weight: count, nans, infinities, zeros, mean, std, min, max, absmax.
---@return table
function recipe_layer:stats() end

---What quantizing with a scheme would lose: the sum of squared differences over the sum of squares.
---@param by rondo.scheme
---@return number
function recipe_layer:loss(by) end

---Ways to choose schemes that look at all layers at once, for the field policy of a recipe.
---@class rondo.policies
rondo.policy = {}

---Chooses so that the summed relative error is the least that can be found within a size.
---@param given rondo.policy.budget.options
---@return fun(plan: table) policy
function rondo.policy.budget(given) end

---@class rondo.policy.budget.options
---@field bits? number of a weight, on average, scales and zero points counted
---@field bytes? integer of all weight files; either this or bits
---@field choices rondo.scheme[]
---@field sensitivity? fun(layer: rondo.recipe.layer): number a factor for the layer's error

return rondo
