-- remarks: what some engine cannot load though a format holds it, for warnings. A format's `remark`
-- is made of a list of { function (layer of plan.layers) -> whether it applies, text }. What was
-- tried, with versions, stands in docs/interop.md.

local remarks = {}

--- A format's remark: the texts of those that apply to some layer, or nil.
function remarks.maker(list)
  return function(layers)
    local texts, said = {}, {}
    for _, layer in layers do
      for i, remark in ipairs(list) do
        if not said[i] and remark[1](layer) then
          said[i], texts[#texts + 1] = true, remark[2]
        end
      end
    end
    return #texts > 0 and table.concat(texts, "; ") or nil
  end
end

--- For formats of which transformers loads no experts.
remarks.experts = {
  function(layer) return layer.kind == "expert" end,
  "transformers has no way to load experts of it",
}

return remarks
