-- policy: ways to choose schemes that look at all layers of a plan at once. A policy is a function
-- (plan) for the field `policy` of a recipe; those here make one, and anybody can write another.
--
-- plan.layers: the layers that the rules quantize, but for those of fixed rules, in the model's
-- order, each with
--   layer   as the functions of a recipe see it (rondo.recipe.layer)
--   scheme  what the rules chose; the policy may put another here
--   text    the rule, for the plan to show; whoever changes the scheme says so here
-- plan.units: the same layers in lists of those that engines fuse, which get one scheme; all alone
-- where the recipe says fused = false
-- plan.fixed: the layers of fixed rules, likewise; they stay as they are
-- plan.fit(entry, scheme): the scheme as the output's format stores that layer with it; nil and why
--   it has no place for it, which is an error where the recipe has no fallback
-- plan.fallback: what such a layer gets instead, a list of schemes
-- plan.bytes(entry, scheme): the bytes of that layer's tensors: codes, scales, zero points; of a
--   scheme that the format has no place for those of what the recipe falls back to
-- plan.total(): the bytes of all weight files as things stand
-- plan.note(text): a line for what plan, report and the command say at their end
--
-- Sizes are those of the format that the plan writes; of the packed one for "fake", whose files do
-- not get smaller.

local policy = {}

--- Chooses so that the summed relative error is least within a size; see rondo.policy.budget.
function policy.budget(given)
  return require("rondo.policy.budget")(given)
end

return policy
