-- What a careful operator may write instead: the provider from the model's name, and the usage of the answer. It limits nothing.

function envoy_on_request(handle)
  local body = handle:body()
  if not body then
    return
  end
  local text = body:getBytes(0, body:length())
  local provider, model = string.match(text, '"model"%s*:%s*"([^"/]+)/([^"]+)"')
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
    tokens = string.match(text, '"total_tokens"%s*:%s*(%d+)') or tokens
  end
  if tokens then
    handle:streamInfo():dynamicMetadata():set("peer", "tokens", tokens)
  end
end
