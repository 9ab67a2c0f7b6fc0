-- cli.document: JSON for other programs, written as it is made: lists of 100,000 records must cost
-- neither much time nor a second copy in memory.

local core = require "rondo.core"
local json = require "rondo.json"
local output = require "rondo.cli.output"

local document = {}

local Records = { __name = "rondo.records" } -- nothing but this command holds it

-- Shapes and other lists on one line.
local function list_text(list)
  local texts = {}
  for i, value in ipairs(list) do texts[i] = json.encode(value) end
  return "[" .. table.concat(texts, ", ") .. "]"
end

-- JSON has no infinity and no NaN.
local function is_finite(value)
  return value - value == 0
end

local function is_list(value)
  return json.is_array(value) or type(value) == "table" and #value > 0 and type(value[1]) ~= "table"
end

local function value_text(value)
  local kind = math.type(value)
  if kind == "integer" then return ("%d"):format(value) end
  if kind == "float" then return is_finite(value) and core.json_real(value) or "null" end
  if type(value) == "string" then return core.json_quote(value) end
  if is_list(value) then return list_text(value) end
  return json.encode(value)
end

-- A function from a value to its member of an object. Neighbours often have the same shape, rule,
-- ...: its text is made once.
local function member_of(name, nullable)
  local key, last, last_type, text = "      " .. core.json_quote(name) .. ": ", nil, nil, nil
  return function(value)
    if value == nil then return nullable and key .. "null" or nil end
    if value ~= last or math.type(value) ~= last_type then -- 1 and 1.0 are equal
      last, last_type, text = value, math.type(value), key .. value_text(value)
    end
    return text
  end
end

-- A function from an entry to the lines of its members.
local function encoder(names, nullable)
  local member = {}
  for i, name in ipairs(names) do
    member[i] = member_of(name, nullable and nullable[name])
  end
  return function(entry)
    local members = {}
    for i = 1, #names do members[#members + 1] = member[i](entry[names[i]]) end
    return table.concat(members, ",\n")
  end
end

--- A list of objects for document.write.
-- @param entries   list of tables
-- @param names     their fields in order; fields that are nil are left out
-- @param nullable  set of fields that stand as null where they are nil; numbers that are not finite
--                  are null, too
function document.records(entries, names, nullable)
  local encode = encoder(names, nullable)
  return setmetatable({ count = #entries, text = function(i) return encode(entries[i]) end },
                      Records)
end

--- The same for entries that differ in their names: what many share is made into text once.
-- @param own     list of the entries' names, their first field
-- @param shared  function (i) -> a table with the other fields
function document.named_records(own, shared, names, nullable)
  local encode, texts = encoder(names, nullable), setmetatable({}, { __mode = "k" })
  local function text(i)
    local entry = shared(i)
    if not texts[entry] then texts[entry] = ",\n" .. encode(entry) end
    return '      "name": ' .. core.json_quote(own[i]) .. texts[entry]
  end
  return setmetatable({ count = #own, text = text }, Records)
end

local function write_records(records)
  if records.count == 0 then return output.text "[]" end
  local texts = {}
  output.text "[\n    {\n"
  for i = 1, records.count do
    texts[#texts + 1] = records.text(i)
    if #texts == 1000 or i == records.count then
      output.text(table.concat(texts, "\n    },\n    {\n"))
      output.text(i == records.count and "\n    }\n  ]" or "\n    },\n    {\n")
      texts = {}
    end
  end
end

--- Writes one object to stdout: members is a list of { key, value }; a value is anything that
--- json.encode takes, or document.records.
function document.write(members)
  output.text "{\n"
  for i, member in ipairs(members) do
    output.text("  " .. core.json_quote(member[1]) .. ": ")
    if getmetatable(member[2]) == Records then
      write_records(member[2])
    else
      output.text((json.encode(member[2], { indent = 2 }):gsub("\n", "\n  ")))
    end
    output.text(i < #members and ",\n" or "\n")
  end
  output.text "}\n"
  return true
end

--- An object with the named fields of an entry, in order.
-- @param nullable  as above
function document.object(entry, names, nullable)
  local members = {}
  for _, name in ipairs(names) do
    local value = entry[name]
    if value == nil and nullable and nullable[name] then value = json.null end
    if math.type(value) == "float" and not is_finite(value) then value = json.null end
    if value ~= nil then members[#members + 1] = { name, value } end
  end
  return json.object(members)
end

return document
