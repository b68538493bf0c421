"""Notifications to a real HTTP server and to real processes."""

import json
import logging
import os
import pathlib
import signal
import subprocess
import sys
import time
import tracemalloc

import pytest

from pipeline.cli import main
from pipeline.config.notifications import NotifyConfig
from pipeline.runs import notify
from tests.support import webhook_server
from tests.support.records import make_record

TOKEN = "t0ken-that-nobody-may-see"
SECRET_PATH = "/services/p4th-that-nobody-may-see"


@pytest.fixture
def serve():
    with webhook_server.servers() as serve:
        yield serve


@pytest.fixture(autouse=True)
def token(monkeypatch):
    monkeypatch.setenv("HOOK_TOKEN", TOKEN)


def send(text="it was refused", **settings):
    """Sends notifications of a refused run, and returns the lines that are printed."""
    lines = []
    record = make_record(
        status="refused", refusals=["ELBO -290.00 must be at least the floor, -100.00"]
    )
    notify.send(NotifyConfig(**settings), record, text=text, print_line=lines.append)
    return lines


def test_the_record_is_posted_as_json_with_the_token(serve):
    server = serve(200)
    lines = send(webhook=server.url + "/hook", token="env:HOOK_TOKEN")
    assert lines == []
    ((path, headers, body),) = server.requests
    assert path == "/hook"
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert headers["Content-Type"] == "application/json"
    posted = json.loads(body)
    assert posted["verdict"] == "refused"
    assert posted["text"] == "it was refused"
    assert posted["refusals"] == ["ELBO -290.00 must be at least the floor, -100.00"]


def test_the_url_and_the_token_may_be_in_files(serve, tmp_path):
    server = serve(204)
    (tmp_path / "url").write_text(f"{server.url}{SECRET_PATH}?key=1\n")
    (tmp_path / "token").write_text(TOKEN + "\n")
    lines = send(webhook=f"file:{tmp_path / 'url'}", token=f"file:{tmp_path / 'token'}")
    assert lines == []
    ((path, headers, _),) = server.requests
    assert path == f"{SECRET_PATH}?key=1"
    assert headers["Authorization"] == f"Bearer {TOKEN}"


def test_a_token_that_is_not_a_valid_header_is_not_shown(serve, monkeypatch):
    monkeypatch.setenv("HOOK_TOKEN", f"{TOKEN}\nX: y")
    (line,) = send(webhook=serve(200).url, token="env:HOOK_TOKEN")
    assert line.endswith("/... was not notified: ValueError")
    assert TOKEN not in line


def test_other_events_are_not_notified(serve):
    server = serve(200)
    assert send(webhook=server.url, events=["pushed", "failed"]) == []
    assert server.requests == []


@pytest.mark.parametrize(
    ("template", "payload"),
    [
        ('{"text": "$text"}', {"text": "TEXT"}),  # Slack
        (  # Discord
            '{"content": "$text", "allowed_mentions": {"parse": []}}',
            {"content": "TEXT", "allowed_mentions": {"parse": []}},
        ),
        (  # Teams
            '{"type": "message", "attachments": [{"content": {"type": "AdaptiveCard", '
            '"$$schema": "http://a.org/s.json", "body": [{"text": "$text"}]}}]}',
            {
                "type": "message",
                "attachments": [
                    {
                        "content": {
                            "type": "AdaptiveCard",
                            "$schema": "http://a.org/s.json",
                            "body": [{"text": "TEXT"}],
                        }
                    }
                ],
            },
        ),
        (
            '{"a": ["$model: ${run_id}_$event", "\\u0024text $$text"], "ß": 1e400}',
            {"a": ["vae: run-1_refused", "$text $text"], "ß": float("inf")},
        ),
    ],
)
@pytest.mark.parametrize(
    "text",
    [
        "it was refused",
        'a "quote", a \\, a \\" and a line\nof 100 %, \x00\x1b[0m \u2028',
        '", "content": "$model ${event} $$ {text}',
        "Maß 数 \U0001f600",
        "",
    ],
)
def test_a_template_is_filled_in_with_any_text(serve, template, payload, text):
    server = serve(200)
    assert send(text=text, webhook=server.url, template=template) == []
    ((_, headers, body),) = server.requests
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body) == replace(payload, text)


def replace(value, text):
    """Returns JSON with a text for each TEXT."""
    if isinstance(value, dict):
        return {key: replace(each, text) for key, each in value.items()}
    if isinstance(value, list):
        return [replace(each, text) for each in value]
    return text if value == "TEXT" else value


def test_a_long_text_is_shortened_in_a_template_alone(serve, tmp_path):
    server = serve(200)
    for template in ('{"content": "$text"}', ""):
        send(text="x" * 5000, webhook=server.url, template=template)
    filled, whole = (json.loads(body) for _, _, body in server.requests)
    assert filled == {"content": "x" * 1900 + " (shortened)"}
    assert whole["text"] == "x" * 5000


def test_the_command_gets_the_record_whatever_the_template_is(tmp_path):
    command = shell(f"cat >{tmp_path}/got")
    assert send(command=command, template='{"content": "$text"}') == []
    assert json.loads((tmp_path / "got").read_text())["run_id"] == "run-1"


@pytest.mark.parametrize("url", [f"http://127.0.0.1:9{SECRET_PATH}", "http://[::1"])
def test_a_line_that_cannot_be_printed_leaves_no_secret_in_a_traceback(
    url, monkeypatch, caplog
):
    monkeypatch.setenv("HOOK_URL", url)

    def fail(line):
        raise BrokenPipeError(32, "Broken pipe")

    config = NotifyConfig(webhook="env:HOOK_URL", token="env:HOOK_TOKEN", timeout=0.2)
    try:
        notify.send(config, make_record(status="failed"), text="", print_line=fail)
    except BrokenPipeError:
        logging.exception("not printed")
    assert "NotifyError" in caplog.text or "WebhookError" in caplog.text
    assert SECRET_PATH not in caplog.text
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"webhook": "env:ABSENT"},
            "webhook: the environment variable ABSENT, which notify.webhook names, "
            "must be set",
        ),
        (
            {"webhook": "https://example.org", "token": "file:/absent"},
            "webhook: the file /absent, which notify.token names, can't be read: No "
            "such file or directory",
        ),
        (
            {"webhook": "file:/dev/zero"},
            "webhook: /dev/zero, which notify.webhook names, must be a regular file",
        ),
        (
            {"webhook": "env:PLAIN"},
            "webhook: webhook must be an https:// URL (http:// to this machine "
            "alone), got http://example.org/...",
        ),
    ],
)
def test_a_missing_secret_is_named_at_the_start_and_at_the_end(
    settings, line, monkeypatch
):
    monkeypatch.setenv("PLAIN", f"http://example.org{SECRET_PATH}")
    assert notify.find_problems(NotifyConfig(**settings)) == [f"notify: {line}"]
    assert send(**settings) == [f"notify: {line}"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (" \n", "not be empty"),
        ("a" * 10_001, "have at most 10,000 characters, got more"),
    ],
)
def test_a_secret_of_another_length(tmp_path, text, why):
    path = tmp_path / "url"
    path.write_text(text)
    assert send(webhook=f"file:{path}") == [
        f"notify: webhook: the file {path}, which notify.webhook names, must {why}"
    ]


def test_a_named_pipe_is_no_secret(tmp_path):
    path = tmp_path / "url"
    os.mkfifo(path)
    assert send(webhook=f"file:{path}") == [
        f"notify: webhook: {path}, which notify.webhook names, must be a regular file"
    ]


def test_a_secret_file_that_is_not_text(tmp_path):
    (tmp_path / "url").write_bytes(b"\xff\xfe")
    assert send(webhook=f"file:{tmp_path}/url") == [
        f"notify: webhook: the file {tmp_path}/url, which notify.webhook names, can't "
        "be read: not UTF-8"
    ]


def shell(script):
    return ["/bin/sh", "-c", script]


def test_the_command_gets_the_record_and_the_event(tmp_path):
    script = f'cat >{tmp_path}/got; echo "$VAE_PIPELINE_EVENT" >{tmp_path}/event'
    assert send(command=shell(script)) == []
    assert json.loads((tmp_path / "got").read_text())["run_id"] == "run-1"
    assert (tmp_path / "event").read_text() == "refused\n"


def test_the_command_is_not_passed_to_a_shell(tmp_path):
    name = f"{tmp_path}/a; touch {tmp_path}/b"
    assert send(command=["touch", name.replace("/b", "-b").replace("/", "_")]) == []
    pathlib.Path(name.replace("/b", "-b").replace("/", "_")).unlink()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["/absent"], "/absent can't be started: No such file or directory"),
        (shell("exit 7"), "/bin/sh ended with exit code 7"),
        (shell("kill -9 $$"), "/bin/sh ended with exit code -9"),
    ],
)
def test_a_failed_command_is_named(command, line):
    assert send(command=command) == [f"notify: command: {line}"]


def has_ended(pid):
    stat = pathlib.Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text(encoding="utf-8").split()[2] == "Z"


def wait_for_end(pid):
    for _ in range(50):
        if has_ended(pid):
            return
        time.sleep(0.05)
    pytest.fail("what the command started still runs")


# Ignores what a terminal or a time-out sends, writes its id to a file, and continues.
CHILD = """
trap '' HUP INT TERM
echo $$ >$1.new
mv $1.new $1
exec sleep 300
"""


@pytest.fixture
def child(tmp_path):
    """Returns the words of a command that starts CHILD, and CHILD's process id."""
    pid = tmp_path / "pid"
    (tmp_path / "child").write_text(CHILD)

    def words(start, then):
        script = f"{start} & while ! test -e $2; do sleep 0.02; done; {then}"
        return [*shell(script), "sh", str(tmp_path / "child"), str(pid)]

    yield words, lambda: int(pid.read_text())
    if pid.exists() and not has_ended(int(pid.read_text())):
        os.kill(int(pid.read_text()), signal.SIGKILL)


@pytest.mark.parametrize(
    "start",
    [
        "sh $1 $2",
        "setsid sh $1 $2",
        "(setsid sh $1 $2 &)",  # loses its parent
        "(setsid nohup setsid sh $1 $2 >/dev/null 2>&1 &)",
        "(setsid env -u HOME LANG=C sh $1 $2 &)",
    ],
)
def test_a_command_that_hangs_is_killed_with_what_it_started(start, child):
    words, pid = child
    command = words(start, then="trap '' TERM; sleep 300")
    (line,) = send(command=command, timeout=2.0)
    assert line == "notify: command: /bin/sh did not end in 2 s and was killed"
    wait_for_end(pid())


def test_a_background_process_of_the_command_is_neither_waited_for_nor_killed(
    child, caplog
):
    """It has the command's standard output and standard error open."""
    words, pid = child
    caplog.set_level(logging.INFO)
    start = time.monotonic()
    assert send(command=words("setsid sh $1 $2", then="echo done"), timeout=60.0) == []
    assert time.monotonic() - start < 30.0
    assert outputs(caplog) == ["the output of /bin/sh:\ndone\n"]
    assert not has_ended(pid())


def outputs(caplog):
    return [
        record.getMessage()
        for record in caplog.records
        if record.getMessage().startswith("the output of ")
    ]


@pytest.mark.parametrize(
    ("script", "output"),
    [
        ("exit 0", None),
        ("echo one; echo two >&2", "one\ntwo\n"),
        ("echo why; exit 7", "why\n"),
        ("printf 'Ma\\303\\237 \\377'", "Maß \\xff"),
        ("echo one; sleep 300", "one\n"),  # killed
        ("echo one; exec >&- 2>&-; sleep 0.1", "one\n"),
    ],
)
def test_what_a_command_prints_is_logged(script, output, caplog):
    caplog.set_level(logging.INFO)
    send(command=shell(script), timeout=1.0)
    expected = [] if output is None else [f"the output of /bin/sh:\n{output}"]
    assert outputs(caplog) == expected


@pytest.mark.parametrize("target", ["1", "2"])
def test_only_the_end_of_a_long_output_is_kept_in_memory_and_in_the_log(target, caplog):
    caplog.set_level(logging.INFO)
    script = f"(yes | head -c 50000000; echo last) >&{target}"
    tracemalloc.start()
    assert send(command=shell(script), timeout=60.0) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    (text,) = outputs(caplog)
    first, _, rest = text.partition("\n")
    # 50,000,000 bytes and `last` with its line's end, without 10,000 bytes
    assert first == "the output of /bin/sh, here without its first 49,990,005 bytes:"
    assert rest.endswith("y\ny\nlast\n")
    assert len(rest) == 10_000
    assert peak < 2_000_000


def test_a_command_that_prints_without_end_is_killed(caplog):
    caplog.set_level(logging.INFO)
    (line,) = send(command=["yes"], timeout=0.5)
    assert line == "notify: command: yes did not end in 0.5 s and was killed"
    (text,) = outputs(caplog)
    assert text.startswith("the output of yes, here without its first ")
    assert len(text) < 10_100


@pytest.fixture
def interruptible():
    # Processes that a shell starts in the background ignore SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_the_command_too(tmp_path):
    # The command reads its standard input and then interrupts the run.
    script = f"echo $$ >{tmp_path}/pid; cat >/dev/null; kill -INT $PPID; exec sleep 300"
    with pytest.raises(KeyboardInterrupt):
        send(command=shell(script), timeout=60.0)
    pid = int((tmp_path / "pid").read_text())
    assert not pathlib.Path(f"/proc/{pid}").exists()


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_the_command_starts_ends_it_too(monkeypatch):
    started = []

    class Interrupted(subprocess.Popen):
        """A process whose start is interrupted before the caller gets the object."""

        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            started.append(self)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        send(command=shell("exec sleep 300"), timeout=60.0)
    (process,) = started
    try:
        assert process.returncode == -signal.SIGKILL
    finally:
        process.kill()


def test_nothing_that_a_run_leaves_or_prints_holds_a_secret(serve, tmp_path, capfd):
    """The run ends quickly: another run has the lock, so TensorFlow is not imported."""
    for name, server in (("works", serve(200)), ("fails", serve(503))):
        (tmp_path / "url").write_text(f"{server.url}{SECRET_PATH}?key={TOKEN}")
        file = tmp_path / "config.yaml"
        file.write_text(
            f"notify: {{webhook: 'file:{tmp_path}/url', token: 'env:HOOK_TOKEN', "
            "timeout: 1, events: [failed]}\n"
        )
        root = tmp_path / name
        holder = subprocess.Popen(
            [
                *(sys.executable, "-c", HOLDER, str(root)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=pathlib.Path(__file__).parents[3],
        )
        holder.stdout.readline()
        arguments = ["run", "--config", str(file), "--root", str(root)]
        assert main.main(arguments) == 1
        holder.communicate(b"\n")
        out, err = capfd.readouterr()
        kept = b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())
        assert len(server.requests) >= 1
        assert server.requests[0][1]["Authorization"] == f"Bearer {TOKEN}"
        assert b"env:HOOK_TOKEN" in kept  # the record keeps the settings
        for text in (out.encode(), err.encode(), kept):
            assert TOKEN.encode() not in text
            assert SECRET_PATH.encode() not in text
        assert ("notify: webhook: " in out) == (name == "fails")


HOLDER = """
import pathlib, sys
from pipeline.runs import lock
with lock.hold_lock(pathlib.Path(sys.argv[1]), should_wait=False, print_line=print):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_token_with_a_null_character_is_not_sent(serve, tmp_path):
    server = serve(200)
    (tmp_path / "token").write_text("a\0b")
    assert send(webhook=server.url, token=f"file:{tmp_path}/token") == [
        "notify: webhook: the token that notify.token names must have no control "
        "characters"
    ]
    assert server.requests == []


def test_a_long_name_is_cut():
    (line,) = send(webhook=f"file:{'a' * 5_000}")
    assert len(line) < 400
    (line,) = send(command=["a" * 5_000])
    assert line == f"notify: command: {'a' * 200} can't be started: File name too long"
