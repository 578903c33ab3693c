// The official Node client against a gateway, started by tests/e2e/clients.rs.
//
// Usage: openai_client.mjs BASE_URL everything|exhausted|reserved|developer|limited|fallback
// with PAI_CLIENTS from scripts/install-clients, and the key in PAI_KEY

import assert from 'node:assert/strict'
import { createRequire } from 'node:module'

const { default: OpenAI } = createRequire(`${process.env.PAI_CLIENTS}/node/`)('openai')

const MODEL = 'meta-llama/Meta-Llama-3-70B-Instruct'
const REFERENCE = `vllm-local/${MODEL}`
const KEY = process.env.PAI_KEY ?? 'sk-anything'
const messages = [{ role: 'user', content: 'Hello, world!' }]

/** Sends a request that must be rejected, and returns the exception. */
async function refused(kind, status, code, ask) {
  const error = await ask().then(
    () => assert.fail(`expected ${kind.name}, ${code}`),
    (error) => error,
  )
  assert.equal(error.constructor, kind, `${error}`)
  assert.deepEqual([error.status, error.code], [status, code], `${error}`)
  assert.ok(error.message && error.error.message)
  return error
}

async function collect(stream) {
  const parts = []
  for await (const part of await stream) parts.push(part)
  return parts
}

async function everything(baseURL) {
  const client = new OpenAI({ baseURL, apiKey: KEY })
  const chat = (fields = {}, by = client) => by.chat.completions.create({ model: MODEL, messages, max_tokens: 8, ...fields })

  const answer = await chat()
  assert.equal(answer.choices[0].message.role, 'assistant')
  assert.ok(answer.usage.completion_tokens > 0)
  assert.equal((await chat({ model: REFERENCE, n: 2 })).choices.length, 2)

  const plain = await collect(chat({ model: REFERENCE, stream: true }))
  assert.ok(plain.every((chunk) => !('usage' in chunk) && chunk.choices.length > 0))
  assert.ok(plain.at(-1).choices[0].finish_reason)
  const counted = await collect(chat({ stream: true, stream_options: { include_usage: true } }))
  assert.ok(counted.at(-1).usage.total_tokens > 8 && counted.at(-1).choices.length === 0)
  assert.ok(counted.slice(0, -1).every((chunk) => !chunk.usage))

  const text = await client.completions.create({ model: MODEL, prompt: ['Hello', 'Bye'], max_tokens: 4 })
  assert.equal(text.choices.length, 2)
  assert.ok((await collect(client.completions.create({ model: MODEL, prompt: 'Hi', max_tokens: 4, stream: true }))).length > 1)
  const embeddings = await client.embeddings.create({ model: MODEL, input: ['Hello', 'Bye'] })
  assert.equal(embeddings.data.length, 2)

  assert.deepEqual((await collect(client.models.list())).map((model) => model.id), [REFERENCE])
  const model = await client.models.retrieve(REFERENCE)
  assert.deepEqual([model.id, model.owned_by], [REFERENCE, 'vllm-local'])

  const { response } = await chat().withResponse()
  assert.equal(response.headers.get('x-pai-provider'), 'vllm-local')

  await refused(OpenAI.BadRequestError, 400, 'invalid_body', () => chat({ max_tokens: 'eight' }))
  const error = await refused(OpenAI.BadRequestError, 400, 'invalid_body', () => chat({ n: 0 }))
  assert.equal(error.param, 'n')
  await refused(OpenAI.BadRequestError, 400, 'context_length_exceeded', () => chat({ max_tokens: 10_000_000, n: 2000 }))
  const unknown = new OpenAI({ baseURL, apiKey: 'pak_not-a-key' })
  await refused(OpenAI.AuthenticationError, 401, 'invalid_api_key', () => chat({}, unknown))
  await refused(OpenAI.PermissionDeniedError, 403, 'model_not_allowed', () => chat({ model: 'vllm-local/denied' }))
  await refused(OpenAI.NotFoundError, 404, 'model_not_found', () => chat({ model: 'nowhere/model' }))
  await refused(OpenAI.NotFoundError, 404, 'model_not_found', () => client.models.retrieve('nowhere/model'))
  await refused(OpenAI.NotFoundError, 404, 'unknown_url', () => client.files.list())
  const long = [{ role: 'user', content: 'a'.repeat(200_000) }]
  await refused(OpenAI.APIError, 413, 'request_too_large', () => chat({ messages: long }))
}

async function exhausted(baseURL) {
  const client = new OpenAI({ baseURL, apiKey: KEY, maxRetries: 5 })
  const ask = () => client.chat.completions.create({ model: MODEL, messages, max_tokens: 8 })
  const error = await refused(OpenAI.RateLimitError, 429, 'insufficient_quota', ask)
  assert.equal(error.type, 'insufficient_quota')
  assert.equal(error.headers.get('retry-after'), null)
}

async function reserved(baseURL) {
  const client = new OpenAI({ baseURL, apiKey: KEY, maxRetries: 1 })
  const chat = await client.chat.completions.create({ model: MODEL, messages, max_tokens: 300 })
  assert.equal(chat.usage.total_tokens, 8)
}

async function developer(baseURL) {
  const client = new OpenAI({ baseURL, apiKey: KEY })
  const chat = (fields = {}, by = client) => by.chat.completions.create({ model: MODEL, messages, max_tokens: 8, ...fields })

  assert.ok((await chat()).usage.total_tokens > 0)
  assert.ok((await collect(chat({ stream: true }))).length > 0)
  assert.deepEqual((await collect(client.models.list())).map((model) => model.id), [REFERENCE])
  assert.equal((await client.models.retrieve(REFERENCE)).owned_by, 'vllm-local')
  await refused(OpenAI.PermissionDeniedError, 403, 'model_not_allowed', () => chat({ model: `inside/${MODEL}` }))
  await refused(OpenAI.PermissionDeniedError, 403, 'model_not_allowed', () => chat({ model: 'vllm-local/other' }))
  await refused(OpenAI.NotFoundError, 404, 'model_not_found', () => chat({ model: 'nowhere/model' }))
  await refused(OpenAI.NotFoundError, 404, 'model_not_found', () => client.models.retrieve(`inside/${MODEL}`))
  await refused(OpenAI.BadRequestError, 400, 'context_length_exceeded', () => chat({ max_tokens: 100_000, n: 2000 }))

  for (const [name, word] of [['UNKNOWN', ''], ['EXPIRED', 'expired'], ['DISABLED', 'disabled']]) {
    const other = new OpenAI({ baseURL, apiKey: process.env[`PAI_KEY_${name}`] })
    const error = await refused(OpenAI.AuthenticationError, 401, 'invalid_api_key', () => chat({}, other))
    assert.ok(error.message.toLowerCase().includes(word), `${error}`)
    await refused(OpenAI.AuthenticationError, 401, 'invalid_api_key', () => collect(other.models.list()))
  }
}

async function limited(baseURL) {
  const client = new OpenAI({ baseURL, apiKey: KEY, maxRetries: 1 })
  const chat = await client.chat.completions.create({ model: MODEL, messages, max_tokens: 300 })
  assert.equal(chat.usage.total_tokens, 8)
}

/** An agent that requests the first of its models, and is served by the second. */
async function fallback(baseURL) {
  const defaultHeaders = { 'x-agent-id': 'spiffe://cluster.local/ns/agents/sa/researcher' }
  const client = new OpenAI({ baseURL, apiKey: KEY, defaultHeaders, maxRetries: 0 })
  const chat = (fields = {}) => client.chat.completions.create({ model: REFERENCE, messages, max_tokens: 8, ...fields })

  const { data, response } = await chat().withResponse()
  assert.deepEqual(['x-pai-provider', 'x-pai-model'].map((name) => response.headers.get(name)), ['hosted', MODEL])
  assert.ok(data.choices[0].message.content && data.usage.completion_tokens > 0)

  const streamed = await chat({ stream: true }).withResponse()
  assert.equal(streamed.response.headers.get('x-pai-provider'), 'hosted')
  const plain = await collect(streamed.data)
  assert.ok(plain.every((chunk) => chunk.choices.length > 0 && !chunk.usage) && plain.at(-1).choices[0].finish_reason)
  const counted = await collect(chat({ stream: true, stream_options: { include_usage: true } }))
  assert.ok(counted.at(-1).usage.total_tokens > 8 && counted.at(-1).choices.length === 0)
}

const [baseURL, scenario] = process.argv.slice(2)
await { everything, exhausted, reserved, developer, limited, fallback }[scenario](baseURL)
