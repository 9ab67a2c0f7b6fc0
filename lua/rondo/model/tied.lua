-- tied: which tensors a model shares. A tied lm_head computes with the input embedding; the file
-- may hold it a second time or not at all.
--
-- config.json decides where it says tie_word_embeddings; where it is silent, a model with a head
-- that is absent from the file must have it tied. Without config.json nothing is known to be tied.

local classify = require "rondo.model.classify"
local config = require "rondo.model.config"

local tied = {}

-- Input embeddings by their last segment, best first: T5 and BART have "shared", and "embed_tokens"
-- for encoder and decoder.
local input_embeddings = {
  "shared", "embed_tokens", "wte", "tok_embeddings", "word_embeddings", "embed_in", "tokens_embed",
}

-- Architectures whose output is over the vocabulary.
local with_head = { "ForCausalLM$", "LMHead", "ForConditionalGeneration$", "ForMaskedLM$",
                    "ForPreTraining$" }

local function has_head(fields)
  local names = fields.architectures
  if type(names) ~= "table" then return nil end
  for _, name in ipairs(names) do
    for _, pattern in ipairs(with_head) do
      if name:find(pattern) then return true end
    end
  end
  return false
end

-- Heads by their last segment; the decoder is BERT's, by its whole name.
local head_words = { "lm_head", "embed_out", "proj_out" }
local bert_head = "cls.predictions.decoder.weight"

local interesting = {}
for _, words in ipairs { input_embeddings, head_words } do
  for _, word in ipairs(words) do interesting[word] = true end
end

-- X of a tensor named "X.weight" or "....X.weight", for the words above and outside of numbered
-- layers; or nil.
local function leaf_of(name)
  local leaf = name:match "^.*%.([^.]*)%.weight$" or name:match "^([^.]*)%.weight$"
  return interesting[leaf] and not classify.depth(name) and leaf or nil
end

-- Those tensors: lists by word. None of the words holds a digit, so that the tensors of a group
-- have the same.
local function find_tables(names, group_of)
  local found, leaves = {}, {}
  for number, name in ipairs(names) do
    local group = group_of[number]
    if leaves[group] == nil then leaves[group] = leaf_of(name) or false end
    local leaf = leaves[group] or name == bert_head and "bert"
    if leaf then
      found[leaf] = found[leaf] or {}
      table.insert(found[leaf], name)
    end
  end
  return found
end

local function input_embedding(found)
  for _, leaf in ipairs(input_embeddings) do
    if found[leaf] then return found[leaf][1] end
  end
end

-- What the head is called where the file does not hold it.
local function absent_head(embedding, types)
  if embedding:find "embed_in%.weight$" then return "embed_out.weight" end
  if types.whisper then return "proj_out.weight" end
  local outer = embedding:match "^(.*%.)model%.embed_tokens%.weight$"
  return (outer or "") .. "lm_head.weight"
end

local function present_head(found)
  for _, word in ipairs(head_words) do
    if found[word] then return found[word][1] end
  end
  return found.bert and found.bert[1]
end

-- T5 and BART: encoder and decoder look up in the common table, whatever the config says.
local function add_shared(list, found)
  local target = found.shared and found.shared[1]
  for _, name in ipairs(target and found.embed_tokens or {}) do
    list[#list + 1] = { name = name, target = target }
  end
end

--- All ties: a list of { name, target }; `name` may be absent from the file, `target` is not.
-- @param names  of all tensors, by number
-- @param group_of  the group of each, see src/format/groups.h
-- @param fields  the config, or nil
-- @param same_shape  tells whether two tensors of the file have the same shape
function tied.find(names, group_of, fields, same_shape)
  local list = {}
  if not fields then return list end
  local found = find_tables(names, group_of)
  local target = input_embedding(found)
  if not target then return list end
  local says = config.get(fields, "tie_word_embeddings", "boolean")
  local head, expected = present_head(found), has_head(fields)
  if head then
    if says and same_shape(head, target) then list[1] = { name = head, target = target } end
  elseif says ~= false and (expected or (says and expected == nil)) then
    list[1] = { name = absent_head(target, config.set(fields, "model_type")), target = target }
  end
  add_shared(list, found)
  return list
end

return tied
