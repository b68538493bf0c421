"""Attacks by and on notifications: secrets in logs, hooks, templates."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import threading

import pytest

from tests.support import attacked
from tests.support.webhook_server import servers

pytestmark = pytest.mark.attacks

CANARY = "canary-4711"


@pytest.fixture
def serve():
    with servers() as start:
        yield start


@pytest.fixture
def run(attack, tmp_path):
    """Returns a function that does a run, whose data are missing, with settings.

    The run must end with exit code 2, within its limits and without a secret in any of
    its files. The function returns its outcome and the text of its log.
    """
    empty = tmp_path / "empty"
    empty.mkdir()
    root = tmp_path / "runs"

    def run(
        *settings, how=attacked.command, source=empty, canary=CANARY, **environment
    ):
        flags = [part for each in settings for part in ("--set", each)]
        words = ("run", "--preset", "smoke", "--dataset", "bars", "--source", source)
        folders = ("--root", root, "--data-dir", tmp_path / "data")
        outcome = how(
            *words, *folders, *flags, folder=attack.folder, environment=environment
        )
        logs = [
            path.read_text(encoding="utf-8", errors="replace")
            for path in root.rglob("*")
            if path.is_file()
        ]
        shown = "\n".join([outcome.out, outcome.err, *logs])
        assert canary not in shown, [
            line for line in shown.splitlines() if canary in line
        ]
        attacked.check_refused(outcome)
        return outcome, "\n".join(logs)

    return run


def _closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


ANSWERS = {
    "malformed headers": {"echoes": True},
    "no answer": {"hangs_up": True},
    "an error": {"status": 500},
    "too many requests": {"status": 429},
    "a refusal": {"status": 403},
    "a redirect": {"status": 302, "location": f"https://127.0.0.1:1/{CANARY}"},
    "a redirect to itself": {"status": 307, "location": f"/{CANARY}"},
    "single bytes": {"status": None, "drops": True},
    "silence": {"status": None},
    "success": {"status": 200},
}


@pytest.mark.line("secret in a log")
@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("how", [attacked.command, attacked.command_with_debug_logs])
def test_what_a_webhook_answers(run, serve, name, how):
    options = dict(ANSWERS[name])
    server = serve(options.pop("status", 200), **options)
    settings = (
        "notify.webhook=env:HOOK",
        "notify.token=env:TOKEN",
        "notify.timeout=1.5",
    )
    run(*settings, how=how, HOOK=f"{server.url}/{CANARY}", TOKEN=CANARY)
    ((path, headers, _), *_) = server.requests
    assert (path, headers["Authorization"]) == (f"/{CANARY}", f"Bearer {CANARY}")


URLS = {
    "a closed port": "http://127.0.0.1:PORT/SECRET",
    "TLS to a server without it": "https://127.0.0.1:SERVER/SECRET",
    "a host that is none": "https://nothing.invalid/SECRET",
    "a host of one letter too many": f"https://{'a' * 64}.invalid/SECRET",
    "plain HTTP to another host": "http://example.invalid/SECRET",
    "a user and a password": "https://SECRET:SECRET@example.invalid/",
    "half an IPv6 address": "https://[::1/SECRET",
    "a port that is none": "https://example.invalid:99999/SECRET",
    "another scheme": "file:///SECRET",
    "no scheme": "SECRET",
    "letters of another script": "https://example.invalid/é/SECRET",
    "spaces": "https://example.invalid/a b SECRET",
    "a new line": "https://127.0.0.1:PORT/SECRET\nHost: x",
    "a fragment": "https://127.0.0.1:PORT/#SECRET",
    "a query": "https://127.0.0.1:PORT/?token=SECRET",
}


@pytest.mark.line("secret in a log")
@pytest.mark.parametrize("name", URLS)
@pytest.mark.parametrize("source", ["variable", "file"])
def test_the_url_of_a_webhook(run, serve, tmp_path, name, source):
    server = serve(200)
    url = URLS[name].replace("SECRET", CANARY)
    url = url.replace("PORT", str(_closed_port()))
    url = url.replace("SERVER", server.url.rpartition(":")[2])
    if source == "variable":
        settings, variables = ["notify.webhook=env:HOOK"], {"HOOK": url}
    else:
        (tmp_path / "hook").write_text(url, encoding="utf-8")
        settings, variables = [f"notify.webhook=file:{tmp_path}/hook"], {}
    outcome, _ = run(
        *settings,
        "notify.timeout=1.5",
        how=attacked.command_with_debug_logs,
        **variables,
    )
    assert "notify: webhook: " in outcome.printed
    assert server.requests == []


TOKENS = {
    "a new line": f"{CANARY}\nX-Header: 1",
    "letters of another script": f"{CANARY}é€",
    "a null character": None,
    "100,000 letters": CANARY * 10_000,
}


@pytest.mark.line("secret in a log")
@pytest.mark.parametrize("name", TOKENS)
def test_the_token_of_a_webhook(run, serve, tmp_path, name):
    server = serve(200)
    token = TOKENS[name] or f"{CANARY}\0x"
    (tmp_path / "token").write_text(token, encoding="utf-8")
    outcome, _ = run(
        f"notify.webhook={server.url}",
        f"notify.token=file:{tmp_path}/token",
        how=attacked.command_with_debug_logs,
    )
    assert "notify: webhook: " in outcome.printed
    assert server.requests == []


SOURCES = {
    "a device": "file:/dev/zero",
    "a folder": "file:/etc",
    "a named pipe": "file:PIPE",
    "a broken link": "file:LINK",
    "nothing": "file:/nothing",
    "random bytes": "file:BYTES",
    "no name": "env:",
    "a variable that is not set": "env:NOTHING_4711",
    "a name with a null letter": "file:a\tb",
    "a long name": f"file:{'a' * 5_000}",
    "an unknown home": "file:~nobody-4711/x",
}


@pytest.mark.line("secret in a log")
@pytest.mark.parametrize("name", SOURCES)
def test_the_source_of_a_secret(run, tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "bytes").write_bytes(bytes(range(256)))
    source = SOURCES[name]
    for word in ("PIPE", "LINK", "BYTES"):
        source = source.replace(word, str(tmp_path / word.lower()))
    outcome, _ = run(f"notify.webhook={source}", "notify.timeout=2")
    assert "notify" in outcome.printed
    assert outcome.seconds < 30


SETTINGS = {
    "a webhook with a path": ["notify.webhook=https://hooks.invalid/SECRET"],
    "a webhook with a query": ["notify.webhook=https://hooks.invalid/?SECRET"],
    "a webhook that is a number": ["notify.webhook=[SECRET]"],
    "a token": ["notify.token=SECRET"],
    "a token in a list": ["notify.token=[SECRET]"],
    "a mistyped field": ["notify.tokn=SECRET"],
    "a mistyped section": ["notfy.token=SECRET"],
    "another section": ["slack.webhook=https://hooks.invalid/SECRET"],
    "another field": ["gate.seed=https://hooks.invalid/SECRET"],
    "no equals sign": ["notify.token SECRET"],
    "a template": ['notify.template={"SECRET": '],
    "a template's placeholder": [
        'notify.template={"text": "$text", "key": "SECRET" x}'
    ],
    "an event": ["notify.events=[SECRET]"],
    "a command": ["notify.command={a: SECRET}"],
    "a destination": ["push.destination=s3://key:SECRET@bucket/x"],
    "a destination with a user": ["push.destination=https://u:SECRET@host/x"],
    "a pipeline root": ["kubeflow.pipeline_root=s3://key:SECRET@bucket/x"],
    "a source": ["data.source=s3://key:SECRET@bucket/span-{SPAN}"],
    "a Kubernetes secret": ["kubeflow.secrets={TOKEN: SECRET}"],
    "a Kubernetes secret with slashes": ["kubeflow.secrets={TOKEN: a/SECRET/b}"],
    "an anchor": ["notify.command=[&a SECRET]"],
    "a key twice": ["notify.command={SECRET: 1, SECRET: 2}"],
}


@pytest.mark.line("secret in a log")
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("where", ["--set", "--config"])
def test_a_secret_in_a_setting(attack, tmp_path, name, where):
    settings = [setting.replace("SECRET", CANARY) for setting in SETTINGS[name]]
    if where == "--config":
        path = tmp_path / "settings.yaml"
        lines = []
        for setting in settings:
            key, _, value = setting.partition("=")
            section, _, field = key.partition(".")
            lines += [f"{section}:", f"  {field}: {value}"]
        path.write_text("\n".join(lines), encoding="utf-8")
        settings = [str(path)]
    outcome = attack("run", *[part for each in settings for part in (where, each)])
    attacked.check_refused(outcome)
    assert CANARY not in outcome.printed
    assert sorted(attack.folder.iterdir()) == []


@pytest.mark.line("secret in a log")
@pytest.mark.parametrize("how", [attacked.command, attacked.command_with_debug_logs])
@pytest.mark.parametrize("command", ["data", "versions"])
def test_the_key_of_an_object_store(attack, serve, tmp_path, how, command):
    server = serve(403)
    settings = {
        "data": (
            "--source",
            "s3://models/span-{SPAN}",
            "--data-dir",
            tmp_path / "data",
        ),
        "versions": ("--set", "push.destination=s3://models/x"),
    }[command]
    outcome = how(
        command,
        *settings,
        *("--root", tmp_path / "runs"),
        folder=attack.folder,
        environment={
            "AWS_ENDPOINT_URL": server.url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": CANARY,
            "AWS_MAX_ATTEMPTS": "1",
        },
    )
    logs = [path.read_text() for path in tmp_path.rglob("*.log")]
    assert CANARY not in "\n".join([outcome.out, outcome.err, *logs])
    assert outcome.code == 1
    assert "Traceback" not in outcome.printed


@pytest.mark.line("secret in a log")
@pytest.mark.parametrize("how", [attacked.command, attacked.command_with_debug_logs])
@pytest.mark.parametrize(
    "host",
    [
        "http://127.0.0.1:PORT",
        "http://user:SECRET@127.0.0.1:PORT",
        "http://127.0.0.1:PORT/?token=SECRET",
        "http://[::1",
        "http://127.0.0.1:99999",
        "ftp://127.0.0.1",
        "SECRET",
    ],
)
def test_the_token_of_a_cluster(attack, tmp_path, how, host):
    (tmp_path / "token").write_text(CANARY, encoding="utf-8")
    host = host.replace("PORT", str(_closed_port()))
    outcome = how(
        *("schedule", "--list", "--host", host.replace("SECRET", CANARY)),
        *("--root", tmp_path / "runs"),
        folder=attack.folder,
        environment={"KF_PIPELINES_SA_TOKEN_PATH": str(tmp_path / "token")},
    )
    logs = [path.read_text() for path in tmp_path.rglob("*.log")]
    shown = "\n".join([outcome.out, outcome.err, *logs])
    if host != "SECRET" and "?" not in host:  # the user has typed these
        assert CANARY not in shown
    assert outcome.code in (1, 2)
    assert "Traceback" not in outcome.out + outcome.err


def _command(script: str) -> str:
    return f"notify.command={json.dumps(['sh', '-c', script])}"


OUTPUTS = {
    "lines without end": "yes hello",
    "bytes without end": "cat /dev/zero",
    "lines on standard error": "yes hello >&2",
    "lines of a child in a session of its own": "setsid yes hello",
    "one long line": "head -c 100000000 /dev/zero | tr '\\0' x; sleep 60",
    "all bytes": "head -c 5000000 /dev/urandom; sleep 60",
    "the text of its input": "while :; do cat; done",
}


@pytest.mark.line("output of a hook")
@pytest.mark.parametrize("name", OUTPUTS)
def test_what_a_command_prints(run, name):
    outcome, logs = run(_command(OUTPUTS[name]), "notify.timeout=1")
    assert "notify: command: sh did not end in 1 s and was killed" in outcome.printed
    assert len(logs) < 100_000
    assert outcome.megabytes < 300


@pytest.mark.line("output of a hook")
def test_a_terminals_escape_that_a_command_prints(run):
    _, logs = run(_command("printf '\\033[2J\\033]0;x\\007%s' done"))
    assert "\\x1b[2J\\x1b]0;x\\x07done" in logs
    assert "\x1b" not in logs


@pytest.mark.line("output of a hook")
def test_a_command_that_prints_and_ends(run):
    _, logs = run(_command("head -c 50000000 /dev/zero | tr '\\0' x"))
    assert "without its first 49,990,000 bytes" in logs
    assert len(logs) < 100_000


# `sleep N` is found in the list of processes.
CHILDREN = {
    "a child": "sleep N & wait",
    "a session of its own": "setsid sleep N & wait",
    "a session without the environment": "env -i setsid sleep N & wait",
    "a daemon": "(setsid sleep N &) ; sleep N",
    "a daemon without the environment": "(env -i setsid sleep N &) ; sleep N",
    "a daemon's daemon": "(setsid sh -c '(env -i setsid sleep N &)' &) ; sleep N",
    "signals ignored": "trap '' TERM HUP INT QUIT; sleep N; sleep N",
    "signals ignored in a session": "setsid sh -c 'trap \"\" TERM HUP; sleep N' & wait",
    "stopped": "sleep N & kill -STOP $! $$",
    "no output left open": "exec >/dev/null 2>&1; sleep N",
    "input that is not read": "exec <&-; sleep N",
    "many children": "for i in $(seq 40); do setsid sleep N & done; wait",
    "a chain of children": "f() { sleep N & (f); }; f & sleep N",
    "a new child for each that ends": (
        "setsid sh -c 'while :; do setsid sleep N & sleep 0.01; done' & sleep N"
    ),
}


@pytest.mark.line("process that a hook leaves")
@pytest.mark.parametrize("name", CHILDREN)
def test_the_children_of_a_command_that_takes_too_long(run, name):
    number = f"34{os.getpid()}.{list(CHILDREN).index(name) + 1}"
    script = CHILDREN[name].replace("N", number)
    if name == "a chain of children":
        script = f"ulimit -u 4000; {script.replace('(f)', '[ -e stop ] || sleep 0.1')}"
    try:
        outcome, _ = run(_command(script), "notify.timeout=1")
        assert "notify: command: sh did not end in 1 s" in outcome.printed
        assert attacked.processes_with(number) == []
        assert outcome.seconds < 40
    finally:
        for pid in attacked.processes_with(number):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


ENDS = {
    "a signal": ("kill -9 $$", "exit code -9"),
    "another exit code": ("exit 7", "exit code 7"),
    "a program that is not there": (None, "can't be started"),
}


@pytest.mark.line("process that a hook leaves")
@pytest.mark.parametrize("name", ENDS)
def test_the_end_of_a_command(run, name):
    script, word = ENDS[name]
    setting = _command(script) if script else 'notify.command=["/nothing-4711"]'
    outcome, _ = run(setting)
    assert word in outcome.printed


@pytest.mark.line("process that a hook leaves")
@pytest.mark.parametrize(
    "program", ["/", "/etc/passwd", "~nobody-4711/x", "''", "a" * 5_000]
)
def test_a_command_that_is_no_program(run, program):
    outcome, _ = run(f"notify.command=[{json.dumps(program)}]")
    assert "can't be started" in outcome.printed


TEMPLATES = {
    "no JSON": "{text}",
    "a list": '["$text"]',
    "a text": '"$text"',
    "NaN": '{"a": NaN}',
    "an infinity": '{"a": 1e999, "b": Infinity}',
    "a placeholder outside of a text": '{"a": $text}',
    "an unknown placeholder": '{"a": "$secret"}',
    "an attribute": '{"a": "${text.__class__}"}',
    "Python's format": '{"a": "{text.__class__}"} x',
    "half a placeholder": '{"a": "${text"}',
    "a dollar sign": '{"a": "5 $"}',
    "a number as placeholder": '{"a": "$1"}',
    "deep lists": '{"a": ' + "[" * 20_000 + "]" * 20_000 + "}",
    "5,000 digits": f'{{"a": {"9" * 5_000}}}',
    "two objects": '{"a": "$text"} {"b": 1}',
    "half an object": '{"a": "$text"',
}


@pytest.mark.line("template of the payload")
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_that_is_wrong(refuse, name):
    setting = f"notify.template={TEMPLATES[name]}"
    refuse(["run", "--set", setting], "notify.template")


TEXTS = [
    'a","x":"y',
    "a\\",
    'a"}',
    "a\nb",
    "a\x1b[2J",
    "é\U0001f600",
]
TEXTS += ["@everyone", "<!channel>", "{text}", "%s", "a\tb", "a" * 200]


@pytest.mark.line("template of the payload")
@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_a_text_that_could_end_a_json_text(run, serve, tmp_path, text):
    """The text has the name of the folder in which the data are missing."""
    source = tmp_path / text
    source.mkdir()
    server = serve(200)
    template = '{"content": "$text", "event": "${event}", "cost": "5 $$"}'
    run(f"notify.webhook={server.url}", f"notify.template={template}", source=source)
    ((_, _, body),) = server.requests
    payload = json.loads(body)
    assert set(payload) == {"content", "event", "cost"}
    assert (payload["event"], payload["cost"]) == ("bad_data", "5 $")
    shown = text.replace("\x1b", "\\x1b")
    assert shown in payload["content"]


@pytest.mark.line("template of the payload")
def test_an_answer_without_end(run):
    """A server that sends headers as long as the connection stands."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stop = threading.Event()

        def answer():
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                while not stop.is_set():
                    connection.sendall(b"X-Header: " + b"x" * 1000 + b"\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        outcome, _ = run(f"notify.webhook={url}", "notify.timeout=2")
        stop.set()
        thread.join(10)
    assert "notify: webhook: " in outcome.printed
    assert pathlib.Path(outcome.out) != pathlib.Path()
