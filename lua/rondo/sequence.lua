-- sequence: a list whose items are made when they are asked for, so that 100,000 rows of a plan
-- cost nothing until somebody looks at them. Length, indexing and ipairs work as with a table; each
-- access makes its item anew, so changes to one are not kept.

local sequence = {}

local function refuse()
  error("this list cannot be changed", 2)
end

--- A list of `count` items.
-- @param item  function (index): the item at an index from 1 to count
function sequence.new(count, item)
  return setmetatable({}, {
    __name = "rondo.sequence", __metatable = sequence,
    __len = function() return count end,
    __newindex = refuse,
    __index = function(_, index)
      if math.type(index) == "integer" and index >= 1 and index <= count then return item(index) end
    end,
  })
end

--- Whether a value is such a list.
function sequence.is(value)
  return getmetatable(value) == sequence
end

return sequence
