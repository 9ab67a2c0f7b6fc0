-- grid: tries `steps` ratios, 1, 1 - 1/divisions, 1 - 2/divisions, ..., and takes the first with
-- the least error: for each group, for a row of groups together, or one for the whole tensor. The
-- last is the reference's search.

local AT_ONCE = 8 -- ratios: the core computes many side by side, but memory is bounded

-- Losses of the groups that share a ratio, in a shape that spreads over all groups.
local function shared(losses, over, scheme)
  if over == "group" then return losses end
  if over == "row" then return losses:sum(scheme.group_dim == 0 and 1 or 2, { keep = true }) end
  return losses:sum(2, { keep = true }):sum(1, { keep = true })
end

return require("rondo.strategy").new("grid", { steps = 40, divisions = 200, over = "group" },
                                     function(weight, scheme, options)
  local best, least = scheme:ratios(weight, 1), nil
  for first = 0, options.steps - 1, AT_ONCE do
    local candidates = {}
    for i = first, math.min(first + AT_ONCE, options.steps) - 1 do
      candidates[#candidates + 1] = 1 - i / options.divisions
    end
    local losses = shared(scheme:losses(weight, candidates), options.over, scheme)
    for i, ratio in ipairs(candidates) do
      local loss = losses[(":, :, %d"):format(i)]
      local better = least and loss:lt(least)
      best = better and better:pick(ratio, best) or best
      least = better and better:pick(loss, least) or loss
    end
  end
  return best
end)
