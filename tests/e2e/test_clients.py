"""The clients that users have work unchanged: openai, LangChain's ChatOpenAI and curl."""

from __future__ import annotations

import json
import subprocess

import openai
import pytest
from langchain_openai import ChatOpenAI

from infra.asking import messages

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture
def body(number_question):
    """A routed question with a picture."""
    return {"model": "auto", "messages": messages(number_question), "temperature": 0}


def test_openai_sync(system, body):
    """The official client gets a completion, with the receipt in headers and body."""
    with openai.OpenAI(base_url=f"{system.url}/v1", api_key="none") as client:
        raw = client.chat.completions.with_raw_response.create(**body)
    completion = raw.parse()
    assert completion.choices[0].message.content
    assert completion.usage.completion_tokens > 0
    receipt = completion.model_extra["pointsman"]
    assert raw.headers["x-pointsman-candidate"] == receipt["candidate"]
    assert raw.headers["x-pointsman-decision-id"] == receipt["decision_id"]


async def test_openai_async(system, body):
    """The asynchronous client gets the same."""
    async with openai.AsyncOpenAI(base_url=f"{system.url}/v1", api_key="none") as client:
        completion = await client.chat.completions.create(**body)
    assert completion.choices[0].message.content


def test_openai_stream(system, body):
    """A stream says the same as a completion, tells its receipt first and its usage last."""
    with openai.OpenAI(base_url=f"{system.url}/v1", api_key="none") as client:
        whole = client.chat.completions.create(**body)
        pinned = body | {"model": whole.model_extra["pointsman"]["candidate"]}
        chunks = list(
            client.chat.completions.create(
                **pinned, stream=True, stream_options={"include_usage": True}
            )
        )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].model_extra["pointsman"]["policy"] == "pinned"
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_openai_models(system):
    """The model list holds ``auto`` and the candidates with their prices."""
    with openai.OpenAI(base_url=f"{system.url}/v1", api_key="none") as client:
        models = {model.id: model for model in client.models.list()}
    assert {"auto", "reader", "scene"} <= models.keys()
    assert models["reader"].model_extra["pointsman"]["input_usd_per_mtok"] == pytest.approx(0.1)


def test_langchain(system, body):
    """LangChain's ChatOpenAI gets a message, plain and streamed."""
    chat = ChatOpenAI(
        base_url=f"{system.url}/v1",
        api_key="none",
        model="auto",
        temperature=0,
        extra_body={"routing": {"cost_weight": 0.1}},
    )
    assert chat.invoke(body["messages"]).content
    assert "".join(chunk.content for chunk in chat.stream(body["messages"]))


def test_curl(system, body, tmp_path):
    """Plain curl gets JSON, and events when it asks for a stream."""
    path = tmp_path / "body.json"
    path.write_text(json.dumps(body))
    reply = json.loads(_curl(system.url, path))
    assert reply["choices"][0]["message"]["content"]
    path.write_text(json.dumps(body | {"stream": True}))
    lines = [line for line in _curl(system.url, path).splitlines() if line]
    assert lines[-1] == "data: [DONE]"
    assert "pointsman" in json.loads(lines[0].removeprefix("data: "))


def _curl(url, path):
    command = ["curl", "--silent", "--no-buffer", "--max-time", "60", "--data", f"@{path}"]
    command += ["--header", "content-type: application/json", f"{url}/v1/chat/completions"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
