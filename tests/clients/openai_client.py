"""The official Python client against a gateway, started by tests/e2e/clients.rs.

Usage: openai_client.py BASE_URL everything|exhausted|reserved|developer|limited|fallback      with the key in PAI_KEY
"""

import os
import sys

import openai

MODEL = "meta-llama/Meta-Llama-3-70B-Instruct"
REFERENCE = "vllm-local/" + MODEL
HELLO = [{"role": "user", "content": "Hello, world!"}]
KEY = os.environ.get("PAI_KEY", "sk-anything")


def refused(error_class, status, code, ask):
    """Sends a request that must be rejected, and returns the exception."""
    try:
        ask()
    except openai.APIStatusError as error:
        assert type(error) is error_class, repr(error)
        assert (error.status_code, error.code) == (status, code), repr(error)
        assert error.body["message"] and error.message, repr(error)
        return error
    raise AssertionError(f"expected {error_class.__name__}, {code}")


def everything(base_url):
    client = openai.OpenAI(base_url=base_url, api_key=KEY)

    chat = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=8)
    assert chat.choices[0].message.role == "assistant" and chat.usage.completion_tokens > 0
    chat = client.chat.completions.create(model=REFERENCE, messages=HELLO, max_completion_tokens=8, n=2)
    assert len(chat.choices) == 2

    chunks = list(client.chat.completions.create(model=REFERENCE, messages=HELLO, max_tokens=8, stream=True))
    assert all(chunk.usage is None for chunk in chunks) and all(chunk.choices for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=8, stream=True, stream_options=options))
    assert not chunks[-1].choices and chunks[-1].usage.total_tokens > 8
    assert all(chunk.usage is None for chunk in chunks[:-1])

    text = client.completions.create(model=MODEL, prompt=["Hello", "Bye"], max_tokens=4)
    assert len(text.choices) == 2 and text.usage.total_tokens > 0
    assert "".join(part.choices[0].text for part in client.completions.create(model=MODEL, prompt="Hi", max_tokens=4, stream=True))
    embeddings = client.embeddings.create(model=MODEL, input=["Hello", "Bye"])
    assert len(embeddings.data) == 2 and embeddings.usage.prompt_tokens > 0

    assert [model.id for model in client.models.list()] == [REFERENCE]
    model = client.models.retrieve(REFERENCE)
    assert (model.id, model.owned_by) == (REFERENCE, "vllm-local")

    chat = client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO, max_tokens=8)
    assert chat.headers["x-pai-provider"] == "vllm-local" and chat.headers["x-pai-model"] == MODEL
    assert int(chat.headers["x-ratelimit-remaining-tokens"]) < int(chat.headers["x-ratelimit-limit-tokens"])

    def ask(client=client, **fields):
        return lambda: client.chat.completions.create(**{"model": MODEL, "messages": HELLO, "max_tokens": 8, **fields})

    refused(openai.BadRequestError, 400, "invalid_body", ask(max_tokens="eight"))
    error = refused(openai.BadRequestError, 400, "invalid_body", ask(n=0))
    assert error.param == "n", repr(error)
    refused(openai.BadRequestError, 400, "invalid_body", ask(extra_body={"kv_transfer_params": {"prompt_token_ids": [1]}}))
    refused(openai.BadRequestError, 400, "context_length_exceeded", ask(max_tokens=10_000_000, n=2000))
    unknown = openai.OpenAI(base_url=base_url, api_key="pak_not-a-key")
    refused(openai.AuthenticationError, 401, "invalid_api_key", ask(unknown))
    refused(openai.PermissionDeniedError, 403, "model_not_allowed", ask(model="vllm-local/denied"))
    refused(openai.NotFoundError, 404, "model_not_found", ask(model="nowhere/model"))
    refused(openai.NotFoundError, 404, "model_not_found", lambda: client.models.retrieve("nowhere/model"))
    refused(openai.NotFoundError, 404, "unknown_url", lambda: client.files.list())
    refused(openai.APIStatusError, 413, "request_too_large", ask(messages=[{"role": "user", "content": "a" * 200_000}]))


def exhausted(base_url):
    client = openai.OpenAI(base_url=base_url, api_key=KEY, max_retries=5)

    def ask():
        client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=8)

    error = refused(openai.RateLimitError, 429, "insufficient_quota", ask)
    assert error.type == "insufficient_quota" and "retry-after" not in error.response.headers


def reserved(base_url):
    client = openai.OpenAI(base_url=base_url, api_key=KEY, max_retries=1)
    chat = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=300)
    assert chat.usage.total_tokens == 8


def developer(base_url):
    client = openai.OpenAI(base_url=base_url, api_key=KEY)

    def ask(client=client, **fields):
        return lambda: client.chat.completions.create(**{"model": MODEL, "messages": HELLO, "max_tokens": 8, **fields})

    assert ask()().usage.total_tokens > 0
    assert [chunk for chunk in ask(stream=True)()]
    assert [model.id for model in client.models.list()] == [REFERENCE]
    assert client.models.retrieve(REFERENCE).owned_by == "vllm-local"
    refused(openai.PermissionDeniedError, 403, "model_not_allowed", ask(model="inside/" + MODEL))
    refused(openai.PermissionDeniedError, 403, "model_not_allowed", ask(model="vllm-local/other"))
    refused(openai.NotFoundError, 404, "model_not_found", ask(model="nowhere/model"))
    refused(openai.NotFoundError, 404, "model_not_found", lambda: client.models.retrieve("inside/" + MODEL))
    refused(openai.BadRequestError, 400, "context_length_exceeded", ask(max_tokens=100_000, n=2000))

    for name, word in [("unknown", ""), ("expired", "expired"), ("disabled", "disabled")]:
        other = openai.OpenAI(base_url=base_url, api_key=os.environ["PAI_KEY_" + name.upper()])
        error = refused(openai.AuthenticationError, 401, "invalid_api_key", ask(other))
        assert word in error.message.lower(), repr(error)
        refused(openai.AuthenticationError, 401, "invalid_api_key", lambda other=other: other.models.list())


def limited(base_url):
    client = openai.OpenAI(base_url=base_url, api_key=KEY, max_retries=1)
    chat = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=300)
    assert chat.usage.total_tokens == 8


def fallback(base_url):
    """An agent that requests the first of its models, and is served by the second."""
    headers = {"x-agent-id": "spiffe://cluster.local/ns/agents/sa/researcher"}
    client = openai.OpenAI(base_url=base_url, api_key=KEY, default_headers=headers, max_retries=0)
    completions = client.chat.completions
    chat = completions.with_raw_response.create(model=REFERENCE, messages=HELLO, max_tokens=8)
    assert (chat.headers["x-pai-provider"], chat.headers["x-pai-model"]) == ("hosted", MODEL)
    assert chat.parse().choices[0].message.content and chat.parse().usage.completion_tokens > 0

    stream = completions.with_raw_response.create(model=REFERENCE, messages=HELLO, max_tokens=8, stream=True)
    assert stream.headers["x-pai-provider"] == "hosted"
    chunks = list(stream.parse())
    assert all(chunk.choices and chunk.usage is None for chunk in chunks) and chunks[-1].choices[0].finish_reason
    options = {"include_usage": True}
    chunks = list(completions.create(model=REFERENCE, messages=HELLO, max_tokens=8, stream=True, stream_options=options))
    assert not chunks[-1].choices and chunks[-1].usage.total_tokens > 8


if __name__ == "__main__":
    scenarios = [everything, exhausted, reserved, developer, limited, fallback]
    {scenario.__name__: scenario for scenario in scenarios}[sys.argv[2]](sys.argv[1])
