-- cli.parser: the command line as lua-argparse reads it, with the help of every command.
--
-- argparse takes "-1" for an option; a value that looks like a negative number is joined to the
-- option before it. Help and errors are returned, never printed, and nothing exits from here.

local cli_options = require "rondo.cli.options"

local parser = {}

local commands = {
  { name = "quantize", summary = "quantize the weights of a model into a new folder",
    description = "Quantizes the linear layers of MODEL by round-to-nearest and writes the folder "
      .. "OUT, whole or not at all. lm_head, routers, embeddings, norms and biases are copied "
      .. "unless said otherwise.",
    arguments = { { "MODEL", "A folder in Hugging Face layout, or one safetensors file." },
                  { "OUT", "The folder to make." } } },
  { name = "plan", summary = "show what quantize would do, without reading weights",
    description = "Shows what every tensor of MODEL would become under these options, which rule "
      .. "decides, and the exact size of the output. Reads no weights and writes nothing.",
    arguments = { { "MODEL", "A folder in Hugging Face layout, or one safetensors file." } } },
  { name = "inspect", summary = "list the tensors of a model, with statistics",
    description = "Lists tensors, shapes, types and what each tensor is in the model.",
    arguments = { { "MODEL", "A folder in Hugging Face layout, or one safetensors file." } } },
  { name = "compare", summary = "show the error of every layer between two models",
    description = "Shows how far the layers of B are from those of A, whatever form each is stored "
      .. "in. Layers and tensors that only one of them has, or whose shapes differ, are listed. "
      .. "Exit code 0 also when they differ; 1 when they have nothing in common.",
    arguments = { { "A", "The model to measure against." }, { "B", "The model to measure." } } },
  { name = "verify", summary = "check a quantized model against its source",
    description = "Checks that QUANTIZED has every tensor of SOURCE and no other, that scales and "
      .. "values are finite, that each weight has the code nearest to it under its stored scale, "
      .. "and that errors are what the schemes explain. Exit code 1 where it finds a problem.",
    arguments = { { "SOURCE", "The model that was quantized." },
                  { "QUANTIZED", "What came of it, in any format but fake." } } },
  { name = "repl", summary = "look at models and try things, interactively",
    description = "Reads Lua from the terminal or from standard input and shows results. rondo's "
      .. "functions need no prefix there; help() says what there is. From a pipe or file it ends "
      .. "at the first error, with exit code 1.",
    arguments = { { "MODEL", "A model to open as m.", optional = true } } },
}

local run = {
  name = "run", summary = "run a Lua script with rondo at hand",
  description = "Runs SCRIPT (- reads it from standard input) as lua would, with the global arg "
    .. "and the module rondo. Everything after SCRIPT belongs to it.",
}

local by_name = { run = run }
for _, command in ipairs(commands) do by_name[command.name] = command end

parser.names = { "quantize", "plan", "inspect", "compare", "verify", "repl", "run" }

-- ---- Building the argparse objects ----

local function no_action() end

local function layout(object)
  object:help_max_width(100):help_description_margin(32):help_usage_margin(2)
  object:usage_max_width(100)
  object:add_help { action = no_action }
end

-- Turns "what is allowed" of a converter into argparse's error.
local function converted(option, convert)
  return function(text)
    local value, allowed, wrong = convert(text)
    if value ~= nil then return value end
    if wrong then return nil, ("option '%s': %s"):format(option, wrong) end
    return nil, ("option '%s' must be %s, not '%s'"):format(option, allowed, text)
  end
end

local function add_option(command, described)
  local option, target, placeholder, convert, help = table.unpack(described, 1, 5)
  if not placeholder then
    command:flag(option):target(target):description(help)
    return
  end
  local made = command:option(option):target(target):argname(placeholder):description(help)
    :overwrite(false) -- given twice: an error
  if convert then made:convert(converted(option, convert)) end
  if target == "exclude" or target == "set" then made:count "*" end
end

local function add_command(root, described)
  local command = root:command(described.name):summary(described.summary)
    :description(described.description)
  layout(command)
  for _, argument in ipairs(described.arguments or {}) do
    command:argument(argument[1]):description(argument[2]):target(argument[1]:lower())
      :args(argument.optional and "?" or 1)
  end
  for _, option in ipairs(cli_options.of[described.name] or {}) do add_option(command, option) end
  return command
end

local epilog = "Exit codes: 0 done; 1 something outside failed, and the message names it; 2 wrong "
  .. "usage.\nrondo COMMAND --help describes a command."

local function build()
  local good, argparse = pcall(require, "argparse")
  if not good then
    error { failure = "the Lua module argparse is missing (Debian package lua-argparse)" }
  end
  local root = argparse("rondo", "Quantizes the weights of neural networks.", epilog)
  layout(root)
  root:command_target "command"
  root:flag "--version":description "Print the version and exit."
  local made = {}
  for _, described in ipairs(commands) do made[described.name] = add_command(root, described) end
  made.run = add_command(root, run)
  made.run:argument "SCRIPT":description "A Lua file, or - for standard input."
  made.run:argument("ARGS"):args "*":description "Arguments of the script."
  made.run:handle_options(false)
  return root, made
end

-- ---- Arguments ----

-- Options of a command that take a value.
local function valued(name)
  local set = {}
  for _, option in ipairs(cli_options.of[name] or {}) do
    if option[3] then set[option[1]] = true end
  end
  return set
end

-- Joins "--group-size", "-1" into "--group-size=-1".
local function joined(args, name)
  local takes_value, out, i = valued(name), {}, 1
  while i <= #args do
    local text, following = args[i], args[i + 1]
    if text == "--" then return table.move(args, i, #args, #out + 1, out) end
    if takes_value[text] and following and following:find "^%-%.?%d" then
      out[#out + 1] = text .. "=" .. following
      i = i + 2
    else
      out[#out + 1] = text
      i = i + 1
    end
  end
  return out
end

-- Whether help is asked for, and the command that is named.
local function scan(args)
  local command
  for _, text in ipairs(args) do
    if text == "--" or command == "run" and text:sub(1, 1) ~= "-" then break end
    if text == "-h" or text == "--help" then return command, true end
    if not command and by_name[text] then command = text end
  end
  return command, false
end

-- argparse's messages, in the words of this command.
local function reworded(message, args)
  if message == "too many arguments" then
    return "too many arguments; names with blanks need quotes"
  elseif message == "a command is required" then
    return #args == 0 and "no command given" or message
  end
  return (message:gsub("\nDid you mean", "; did you mean"))
end

local function usage_error(message, command)
  local hint = command and ("Try 'rondo %s --help'."):format(command)
    or ("Commands: %s. Try 'rondo --help'."):format(table.concat(parser.names, ", "))
  return { usage = message, hint = hint, command = command }
end

--- An error of usage found after parsing, for error(): shown with a hint, exit code 2.
function parser.usage_error(message, command)
  return usage_error(message, command)
end

--- Reads the arguments.
-- @param args  without the program's name
-- @return a table with command and its arguments and options, those not given absent; or
--         { help = text }; or nil and { usage = message, hint = text }
function parser.parse(args)
  local command, help = scan(args)
  local root, made = build()
  if help then return { help = (command and made[command] or root):get_help() .. "\n" } end
  local good, result = root:pparse(joined(args, command))
  if not good then return nil, usage_error(reworded(result, args), command) end
  for _, name in ipairs { "exclude", "set" } do -- argparse gives a list of what may be repeated
    if result[name] and #result[name] == 0 then result[name] = nil end
  end
  local conflict = cli_options.conflict(result)
  if conflict then return nil, usage_error(conflict, result.command) end
  return result
end

return parser
