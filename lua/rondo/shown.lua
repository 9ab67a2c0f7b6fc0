-- shown: a text that prints itself. What help and plots return: at the prompt, in print and in
-- string operations it is the text.

local Shown = { __name = "rondo.shown", __metatable = "locked" }

function Shown:__tostring()
  return self.text
end

function Shown.__concat(a, b)
  return tostring(a) .. tostring(b)
end

function Shown:__len()
  return #self.text
end

function Shown.__eq(a, b)
  return a.text == b.text
end

--- Makes one of a text, or of a list of lines.
return function(text)
  if type(text) == "table" then text = table.concat(text, "\n") end
  return setmetatable({ text = text }, Shown)
end
