-- config.json read alone, with the corpus.

local json = require "rondo.json"
local lfs = require "lfs"
local model = require "rondo.model"
local models = require "spec.support.models"

local open = model.open

describe("config.json read alone", function()
  teardown(models.cleanup)

  local function read(bytes)
    return model.config(models.write(models.temporary() .. "/config.json", bytes))
  end

  it("gives the verdict of the corpus", function()
    local shared = models.shared "corpus/make_corpus.py"
    if not shared then return pending "the shared corpus is absent" end
    local dir = models.temporary()
    assert(os.execute(("python3 '%s' '%s' --no-huge >/dev/null"):format(shared, dir)))
    local file <close> = assert(io.open(dir .. "/manifest.json", "rb"))
    local seen = { accept = 0, reject = 0 }
    for _, entry in ipairs(assert(json.decode(file:read "a")).files) do
      if entry.kind == "config" then
        local fields, message, code = model.config(dir .. "/" .. entry.file)
        assert.equal(entry.verdict, fields and "accept" or "reject", entry.file)
        if not fields then
          assert.equal("format", code, entry.file)
          assert.matches(entry.file:match "[^/]*$", message, 1, true)
          assert.is_true(#message <= 512)
        end
        seen[entry.verdict] = seen[entry.verdict] + 1
      end
    end
    assert.same({ accept = 6, reject = 19 }, seen)
  end)

  it("keeps values as they are", function()
    local fields = assert(read '{"a":[1,null,2.5],"b":{"c":"d"},"e":NaN,"f":true}')
    assert.same({ 1, json.null, 2.5 }, { fields.a[1], fields.a[2], fields.a[3] })
    assert.equal("d", fields.b.c)
    assert.is_true(fields.e ~= fields.e)
    assert.is_true(fields.f)
  end)

  it("takes a folder for the file in it", function()
    local dir = models.folder({}, '{"hidden_size":8}')
    assert.equal(8, model.config(dir).hidden_size)
  end)

  local wrong = {
    '{"hidden_size":0}', '{"hidden_size":64.0}', '{"hidden_size":2147483649}',
    '{"hidden_size":"64"}', '{"hidden_size":true}', '{"hidden_size":[64]}',
    '{"num_attention_heads":0}', '{"num_attention_heads":1048577}',
    '{"num_hidden_layers":-1}', '{"num_hidden_layers":1048577}',
    '{"architectures":[]}', '{"architectures":{}}', '{"architectures":"A"}',
    '{"architectures":["A",3]}', '{"architectures":[null]}', '{"tie_word_embeddings":1}',
    '{"tie_word_embeddings":"true"}', '{"text_config":{"hidden_size":0}}',
    '{"text_config":{"tie_word_embeddings":0}}', "[]", "3", "null", '"x"', "", " ", "{} {}",
  }
  for _, bytes in ipairs(wrong) do
    it("refuses " .. bytes, function()
      local fields, message, code = read(bytes)
      assert.is_nil(fields)
      assert.equal("format", code)
      assert.matches("config.json", message, 1, true)
    end)
  end

  local right = {
    '{"hidden_size":1}', '{"hidden_size":2147483648}', '{"num_attention_heads":1048576}',
    '{"num_hidden_layers":0}', '{"architectures":["A","B"]}', '{"tie_word_embeddings":false}',
    '{"hidden_size":null,"architectures":null,"tie_word_embeddings":null}', "{}", " {}\n",
    '{"text_config":null}', '{"text_config":3}', '{"vision_config":{"hidden_size":0}}',
  }
  for _, bytes in ipairs(right) do
    it("takes " .. bytes, function() assert.is_table(read(bytes)) end)
  end

  it("does not wait for pipes or swallow devices", function()
    local dir = models.temporary()
    assert(os.execute(("mkfifo '%s/config.json'"):format(dir)))
    for _, path in ipairs { dir, dir .. "/config.json", "/dev/zero" } do
      local fields, message, code = model.config(path)
      assert.is_nil(fields)
      assert.matches("regular file", message, 1, true)
      assert.equal("io", code)
    end
  end)

  it("says what is missing", function()
    local fields, message, code = model.config(models.temporary())
    assert.is_nil(fields)
    assert.matches("config.json: .*No such file", message)
    assert.equal("io", code)
    local dir = models.folder({}, nil)
    assert(lfs.link("nowhere", dir .. "/config.json", true))
    local m, why = open(dir)
    assert.is_nil(m)
    assert.matches("config.json", why, 1, true)
    assert.error_matches(function() model.config(nil) end, "string expected, got nil")
  end)

  it("refuses one beyond any real size", function()
    local path = models.temporary() .. "/config.json"
    local file = assert(io.open(path, "wb"))
    file:seek("set", 257 * 1024 * 1024)
    file:write "x"
    file:close()
    local fields, message = model.config(path)
    assert.is_nil(fields)
    assert.matches("269484033 bytes", message, 1, true)
  end)
end)
