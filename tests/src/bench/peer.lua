-- What a careful operator may write instead: the provider from the model's name, and the usage of the answer. It limits nothing.
-- Plain searches first: patterns are slow where they fail at every byte.

function envoy_on_request(handle)
  local body = handle:body()
  if not body then
    return
  end
  local text = body:getBytes(0, body:length())
  local at = string.find(text, '"model"', 1, true)
  local provider, model
  if at then
    provider, model = string.match(text, '^"model"%s*:%s*"([^"/]+)/([^"]+)"', at)
  end
  if not provider then
    handle:respond({ [":status"] = "404" }, "no model")
    return
  end
  handle:headers():replace("x-pai-provider", provider)
  handle:streamInfo():dynamicMetadata():set("peer", "model", model)
end

function envoy_on_response(handle)
  local known = handle:streamInfo():dynamicMetadata():get("peer")
  handle:headers():add("x-peer-model", known and known["model"] or "none")
  local tokens
  for chunk in handle:bodyChunks() do
    local text = chunk:getBytes(0, chunk:length())
    local at = string.find(text, '"total_tokens"', 1, true)
    if at then
      tokens = string.match(text, '^"total_tokens"%s*:%s*(%d+)', at) or tokens
    end
  end
  if tokens then
    handle:streamInfo():dynamicMetadata():set("peer", "tokens", tokens)
  end
end
