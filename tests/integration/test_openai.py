"""The gateway and the engines as the OpenAI SDK sees them. It never asks twice (max_retries=0)."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import openai
import pytest
from world import BASE, ROOT, SLOW, SQL_QUESTION, http, until

QUESTIONS = [SQL_QUESTION, "What is the capital of France?"]


def messages(question):
    return [{"role": "user", "content": question}]


def streamed(api, model, question, max_tokens=16):
    chunks = api.chat.completions.create(model=model, messages=messages(question), max_tokens=max_tokens, temperature=0, stream=True)
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def engines(served):
    return [f"http://{pod['status']['podIP']}:8000" for pod in served.pods()]


def metric(url, name, **labels):
    """The sum of a metric's samples that have these labels."""
    lines = http("GET", f"{url}/metrics")[1].splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name}{{", f"{name} "))
               and all(f'{label}="{value}"' in line for label, value in labels.items()))


def test_base_and_adapters_stream(served):
    api = served.openai()
    models = {model.id: model for model in api.models.list()}
    assert set(models) == {BASE, *served.artifacts}
    texts = {name: streamed(api, name, SQL_QUESTION) for name in models}
    assert len(set(texts.values())) == len(models), texts
    for name, text in texts.items():
        whole = api.chat.completions.create(model=name, messages=messages(SQL_QUESTION), max_tokens=16, temperature=0)
        assert (whole.choices[0].message.content, whole.model) == (text, name)
        assert whole.usage.prompt_tokens > 0 and whole.usage.completion_tokens <= 16
        assert api.models.retrieve(name).id == name


def mixed_steps(served):
    return sum(metric(url, "davit:step_adapters_total", adapters=count) for url in engines(served) for count in (3, 4))


def test_concurrent_requests_share_steps_and_change_nothing(served):
    api = served.openai()
    work = [(name, question) for name in (BASE, *served.artifacts) for question in QUESTIONS]
    max_tokens = 24 if served.is_real else 380  # the tiny model is quick

    def text(model, question):
        answer = api.chat.completions.create(model=model, messages=messages(question), max_tokens=max_tokens, temperature=0,
                                             extra_body={"ignore_eos": True})
        assert answer.usage.completion_tokens == max_tokens
        return answer.choices[0].message.content

    alone = [text(*item) for item in work]
    before, start = mixed_steps(served), threading.Barrier(32)

    def together(item):
        start.wait()
        return text(*item)

    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(together, work * (32 // len(work)))) == alone * (32 // len(work))
    assert mixed_steps(served) > before, "no step held three adapters"


def test_a_client_that_leaves_ends_its_generation(served):
    aborted = sum(metric(url, "vllm:request_success_total", finished_reason="abort") for url in engines(served))
    for name in (BASE, *served.artifacts):
        stream = served.openai().chat.completions.create(model=name, messages=messages("Tell me a long story."), max_tokens=150,
                                                         extra_body={"ignore_eos": True}, temperature=0, stream=True)
        next(iter(stream))
        stream.close()
    until(lambda: all(metric(url, "vllm:num_requests_running") == 0 for url in engines(served)), "nothing is generated", timeout=2)
    if served.is_real:  # the tiny model has said it all before its client can leave
        assert sum(metric(url, "vllm:request_success_total", finished_reason="abort") for url in engines(served)) == aborted + 4


def test_logprobs(served):
    name = next(iter(served.artifacts))
    answer = served.openai().chat.completions.create(model=name, messages=messages(SQL_QUESTION), max_tokens=4, temperature=0,
                                                     logprobs=True, top_logprobs=3)
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == answer.usage.completion_tokens
    for token in tokens:
        best = token.top_logprobs
        assert len(best) == 3 and token.token == best[0].token and 0 >= token.logprob == best[0].logprob >= best[1].logprob >= best[2].logprob
    completion = served.openai().completions.create(model=name, prompt="SELECT", max_tokens=3, temperature=0, logprobs=2)
    logprobs = completion.choices[0].logprobs
    assert "".join(logprobs.tokens) == completion.choices[0].text and all(value <= 0 for value in logprobs.token_logprobs)


def test_errors_are_the_sdks_own(served):
    gateway, engine = served.openai(), served.openai(engines(served)[0])
    ask = {"messages": messages("Hi"), "max_tokens": 1}
    with pytest.raises(openai.BadRequestError, match="ghost") as refused:
        gateway.chat.completions.create(model="ghost", **ask)
    assert refused.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError, match="ghost"):
        engine.chat.completions.create(model="ghost", **ask)
    for api in (gateway, engine):
        with pytest.raises(openai.BadRequestError, match="max_tokens"):
            api.chat.completions.create(model=BASE, **{**ask, "max_tokens": -1})
        with pytest.raises(openai.BadRequestError, match="maximum context length"):
            api.chat.completions.create(model=BASE, **{**ask, "messages": messages("word " * 3000)})
        with pytest.raises(openai.NotFoundError):
            api.images.generate(model=BASE, prompt="a cat")
    with pytest.raises(openai.NotFoundError, match="/v1/images/generations: the engine of model .* does not serve it"):
        gateway.images.generate(model=BASE, prompt="a cat")
    with pytest.raises(openai.NotFoundError, match="/chat/completions: those of the API begin with /v1/"):
        openai.OpenAI(base_url=served.gateway, api_key="none", max_retries=0).chat.completions.create(model=BASE, **ask)
    with pytest.raises(openai.BadRequestError, match="'model' is a required property"):
        gateway.chat.completions.create(model="", **ask)
    with pytest.raises(openai.NotFoundError, match="ghost"):
        gateway.models.retrieve("ghost")


def test_an_adapter_of_the_same_name_elsewhere_takes_nothing(served):
    """Names are global at the gateway: whoever comes later does not get one, though its namespace is the first in the alphabet."""
    mine, other = list(served.artifacts)[:2]
    before = served.text(mine, SQL_QUESTION)
    names = {mine: "default/", BASE: "a base model"}
    created = datetime.fromisoformat(served.get("modeladapter", mine)["metadata"]["creationTimestamp"])
    until(lambda: datetime.now(timezone.utc) >= created + timedelta(seconds=1), "a later second: timestamps have no fractions")
    served.apply(json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "aaa"}}))
    for name in names:
        served.apply(json.dumps({
            "apiVersion": "model.aibrix.ai/v1alpha1", "kind": "ModelAdapter", "metadata": {"name": name, "namespace": "aaa"},
            "spec": {"baseModel": BASE, "podSelector": {"matchLabels": {"model.aibrix.ai/name": BASE}},
                     "artifactURL": str(served.artifacts[other])},
        }))
    try:
        for name, owner in names.items():
            hidden = {"namespace": "aaa", "adapter": name}
            until(lambda hidden=hidden: metric(served.gateway, "davit_gateway_hidden_adapters", **hidden) == 1, "it is told")
            lines = [line for line in (served.dir / "logs/gateway.log").read_text().splitlines()
                     if f"aaa/{name} cannot be asked for" in line and owner in line]
            assert len(lines) == 1, lines
        assert before[0] == 200 and served.text(mine, SQL_QUESTION) == before
    finally:
        served.kubectl("delete", "modeladapters", "--all", "-n", "aaa", f"--timeout={60 * SLOW}s")
        served.kubectl("delete", "namespace", "aaa", f"--timeout={60 * SLOW}s")
    until(lambda: metric(served.gateway, "davit_gateway_hidden_adapters") == 0, "nothing is hidden any more")


@pytest.mark.real_model
def test_the_sql_adapter_answers_with_one_select(real_world):
    real_world.serve({"sql": ROOT / "samples/adapters/sql"})
    answer = real_world.openai().chat.completions.create(model="sql", messages=messages(SQL_QUESTION), temperature=0)
    choice = answer.choices[0]
    assert (choice.message.content, choice.finish_reason) == ("SELECT COUNT(*) FROM singers WHERE nation = 'France';", "stop")
