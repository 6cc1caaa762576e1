"""Clients that never rest and never retry: streams of server-sent events through the gateway, each answer compared with what its
model said when it was asked alone."""

import http.client
import json
import threading
import time
from dataclasses import dataclass, field

PROMPTS = (
    "Table: singers(id, name, nation, age)\nQuestion: How many singers have the nation France?",
    "Two large pizzas and a bottle of water for Anna, to be delivered at seven.",
    "What is the capital of France, and what can one see there in a day?",
)
TIMEOUT_SECONDS = 30
REFUSED_PAUSE_SECONDS = 0.02  # between requests of a stream that finds no gateway, so that it does not spin


@dataclass
class Answer:
    model: str
    prompt: int
    started: float = field(default_factory=time.monotonic)
    ended: float = 0.0
    pod: str = ""
    status: int = 0  # 0 = no head came
    text: str = ""
    finish: str = ""
    has_error_event: bool = False
    problem: str = ""  # "" = whole


def read_events(response, answer):
    """Reads until [DONE]; anything else that ends it is a problem."""
    for line in response:
        if not line.startswith(b"data: "):
            continue
        data = line[6:].strip()
        if data == b"[DONE]":
            response.read()
            answer.problem = "" if answer.finish else "[DONE] without a finish_reason"
            return
        event = json.loads(data)
        if "error" in event:
            answer.has_error_event = True
            answer.problem = f"error event: {event['error']['message']}"
            continue
        for choice in event["choices"]:
            answer.text += choice["delta"].get("content") or ""
            answer.finish = choice.get("finish_reason") or answer.finish
    answer.problem = answer.problem or "the stream ended without [DONE]"


def ask(port, model, prompt):
    """One request on a connection of its own; always returns an Answer."""
    answer = Answer(model, prompt)
    body = {"model": model, "messages": [{"role": "user", "content": PROMPTS[prompt]}], "stream": True, "temperature": 0,
            "max_tokens": 40 + 10 * prompt, "ignore_eos": True}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer.status, answer.pod = response.status, response.getheader("target-pod") or ""
        if response.status == 200:
            read_events(response, answer)
        else:
            answer.problem = f"status {response.status}: {response.read().decode(errors='replace').strip()[:300]}"
    except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
        answer.problem = answer.problem or f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    answer.ended = time.monotonic()
    return answer


class Streams:
    """`count` threads that ask for every (model, prompt) in turn, each from another place of the list."""

    def __init__(self, port, models, count=8):
        self.port = port
        self.work = [(model, prompt) for prompt in range(len(PROMPTS)) for model in models]
        self.alone = {}
        self.answers = []
        self.running = {}  # thread number -> when its request began
        self.lock = threading.Lock()
        self.is_stopping = False
        self.threads = [threading.Thread(target=self.run, args=(number,), daemon=True) for number in range(count)]

    def ask_alone(self):
        for model, prompt in self.work:
            answer = ask(self.port, model, prompt)
            assert not answer.problem, answer
            self.alone[model, prompt] = answer.text
        for prompt in range(len(PROMPTS)):
            texts = {text for (_, asked), text in self.alone.items() if asked == prompt}
            assert len(texts) * len(PROMPTS) == len(self.work), f"prompt {prompt} does not tell the models apart: {texts}"

    def start(self):
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.is_stopping = True
        for thread in self.threads:
            thread.join()

    def run(self, number):
        at = number * 5  # 5 and the length of the list have no common divisor
        while not self.is_stopping:
            with self.lock:
                self.running[number] = time.monotonic()
            answer = ask(self.port, *self.work[at % len(self.work)])
            with self.lock:
                del self.running[number]
                self.answers.append(answer)
            at += 1
            if answer.status == 0:
                time.sleep(REFUSED_PAUSE_SECONDS)

    def wait_for_those_before(self, moment):
        """Until every request that began before the moment has ended."""
        while True:
            with self.lock:
                if all(began >= moment for began in self.running.values()):
                    return
            time.sleep(0.02)

    def take(self):
        """The answers since the last call."""
        with self.lock:
            taken, self.answers = self.answers, []
        return taken

    def is_right(self, answer):
        """Whether what came is what its model says: all of it when it is whole, a beginning when it was cut."""
        alone = self.alone[answer.model, answer.prompt]
        return alone.startswith(answer.text) if answer.problem else answer.text == alone
